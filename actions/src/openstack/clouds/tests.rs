//! The order in which openstacksdk looks, row by row.

use std::fs;

use secrecy::ExposeSecret;

use super::*;

const PASSWORD: &str = "the-password-that-must-not-be-shown";

/// A machine with a working folder and a home, both empty.
struct Place {
    root: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

fn cloud(name: &str, url: &str) -> String {
    format!(
        "clouds:\n  {name}:\n    region_name: RegionOne\n    auth: {{auth_url: 'http://{url}', \
         username: u, password: {PASSWORD}, project_name: p}}\n"
    )
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["work", "home/.config/openstack"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let home = root.path().join("home").display().to_string();
        Self {
            variables: [("HOME".to_owned(), home)].into(),
            root,
        }
    }

    fn file(self, path: &str, text: &str) -> Self {
        fs::write(self.root.path().join(path), text).unwrap();
        self
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What is found for a name, if one is given.
    fn find(&self, name: Option<&str>) -> Result<Found, CloudsError> {
        self.find_in(name, None)
    }

    /// The same in a region.
    fn find_in(&self, name: Option<&str>, region: Option<&str>) -> Result<Found, CloudsError> {
        let around = Surroundings {
            variables: self.variables.clone(),
            folder: self.root.path().join("work"),
        };
        find(name, region, &around)
    }

    fn url(&self, name: Option<&str>) -> String {
        self.find(name).unwrap().auth_url
    }
}

#[test]
fn the_first_file_of_the_order_is_the_one() {
    let place = Place::new().file("home/.config/openstack/clouds.yaml", &cloud("a", "home"));
    assert_eq!(place.url(None), "http://home");
    let place = place.file("work/clouds.yml", &cloud("a", "work-yml"));
    assert_eq!(place.url(None), "http://work-yml");
    let place = place.file("work/clouds.yaml", &cloud("a", "work"));
    assert_eq!(place.url(None), "http://work");
    let place = place
        .file("work/mine", &cloud("a", "mine"))
        .set("OS_CLIENT_CONFIG_FILE", "mine");
    assert_eq!(place.url(None), "http://mine");
}

#[test]
fn the_secure_file_lies_over_the_other() {
    let open = "clouds: {a: {auth: {auth_url: 'http://a', username: u, project_name: p}}}";
    let place = Place::new().file("work/clouds.yaml", open).file(
        "home/.config/openstack/secure.yaml",
        "clouds: {a: {auth: {password: hidden}}}",
    );
    match place.find(None).unwrap().credentials {
        Credentials::Password {
            password, project, ..
        } => {
            assert_eq!(password.expose_secret(), "hidden");
            assert_eq!(project, Named::Name("p".to_owned()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_are_a_cloud_of_their_own_that_is_taken_unless_one_is_named() {
    let place = Place::new().file(
        "work/clouds.yaml",
        &(cloud("a", "a") + "  b: {auth: {auth_url: 'http://b'}}\n"),
    );
    assert!(matches!(place.find(None), Err(CloudsError::Several { .. })));
    assert_eq!(place.url(Some("a")), "http://a");
    assert!(matches!(
        place.find(Some("c")),
        Err(CloudsError::Unknown { .. })
    ));
    let chosen = place.set("OS_CLOUD", "a");
    assert_eq!(chosen.url(None), "http://a");
    // Variables that only choose make no cloud.
    let place = chosen
        .set("OS_REGION_NAME", "RegionTwo")
        .set("OS_LOG_LEVEL", "debug");
    assert!(matches!(
        place.find(Some("envvars")),
        Err(CloudsError::Unknown { .. })
    ));
    let mut place = place
        .set("OS_AUTH_URL", "http://env")
        .set("OS_USERNAME", "u")
        .set("OS_PASSWORD", PASSWORD)
        .set("OS_TENANT_NAME", "old")
        .set("OS_ENDPOINT_TYPE", "internalURL")
        .set("OS_CACERT", "~/ca.pem");
    assert_eq!(place.url(None), "http://a", "OS_CLOUD names another");
    place.variables.remove("OS_CLOUD");
    let found = place.find(None).unwrap();
    assert_eq!(found.auth_url, "http://env");
    assert_eq!(found.region.as_deref(), Some("RegionTwo"));
    assert_eq!(found.interface, Interface::Internal);
    assert_eq!(found.ca, Some(place.root.path().join("home/ca.pem")));
    assert!(!format!("{found:?}").contains(PASSWORD));
    let Credentials::Password {
        project,
        user_domain,
        ..
    } = found.credentials
    else {
        panic!("no password");
    };
    assert_eq!(project, Named::Name("old".to_owned()));
    assert_eq!(user_domain, Named::Id("default".to_owned()));
}

#[test]
fn of_project_and_domain_what_stands_outside_of_auth_wins_and_of_all_else_what_stands_in_it() {
    let text = "clouds:\n  a:\n    project_name: outside\n    user-domain-name: outside\n    \
                username: outside\n    password: outside\n    tenant_name: older\n    \
                auth: {auth_url: 'http://a', project_name: inside, user_domain_name: inside, \
                project_domain_name: inside, user_name: inside, password: inside}\n";
    let place = Place::new().file("work/clouds.yaml", text);
    let Credentials::Password {
        username,
        user_domain,
        password,
        project,
        project_domain,
    } = place.find(None).unwrap().credentials
    else {
        panic!("no password");
    };
    let name = |text: &str| Named::Name(text.to_owned());
    assert_eq!((project, user_domain), (name("outside"), name("outside")));
    assert_eq!((username, project_domain), (name("inside"), name("inside")));
    assert_eq!(password.expose_secret(), "inside");
}

#[test]
fn no_cloud_of_a_file_may_have_the_name_of_the_variables() {
    // Refused whether variables make up a cloud or not.
    let file = |name: &str| Place::new().file("work/clouds.yaml", &cloud(name, "file"));
    let taken = |place: Place| {
        let error = place.find(None).unwrap_err();
        assert!(matches!(error, CloudsError::Taken { .. }), "{error}");
    };
    taken(file("envvars"));
    taken(file("envvars").set("OS_AUTH_URL", "http://env"));
    taken(file("mine").set("OS_CLOUD_NAME", "mine"));
    let free = file("envvars").set("OS_CLOUD_NAME", "mine");
    assert_eq!(free.url(None), "http://file");
}

#[test]
fn the_first_region_is_taken_with_what_holds_in_it() {
    let auth = "auth: {auth_url: 'http://all', username: u, password: p, project_name: p}";
    for (regions, region, url, interface) in [
        (
            "regions: [{name: one, values: {interface: internal, auth: {auth_url: 'http://one'}}}, two]",
            "one",
            "http://one",
            Interface::Internal,
        ),
        (
            "regions: [two, {name: one, values: {interface: internal}}]",
            "two",
            "http://all",
            Interface::Public,
        ),
        (
            "region_name: four, regions: [{name: three, values: {region_name: five, interface: }}]",
            "three",
            "http://all",
            Interface::Public,
        ),
        (
            "region_name: 'four,five'",
            "four",
            "http://all",
            Interface::Public,
        ),
    ] {
        let text = format!("clouds: {{a: {{interface: public, {regions}, {auth}}}}}");
        let found = Place::new()
            .file("work/clouds.yaml", &text)
            .find(None)
            .unwrap();
        assert_eq!(found.region.as_deref(), Some(region), "{regions}");
        assert_eq!(found.auth_url, url, "{regions}");
        assert_eq!(found.interface, interface, "{regions}");
        let username = match found.credentials {
            Credentials::Password { username, .. } => username,
            other => panic!("{other:?}"),
        };
        assert_eq!(username, Named::Name("u".to_owned()), "{regions}");
    }
}

#[test]
fn the_region_that_is_named_is_taken_with_what_holds_in_it() {
    let text = "clouds: {a: {regions: [{name: one, values: {auth: {project_name: p1}}}, \
                {name: two, values: {auth: {project_name: p2}}}, three], \
                auth: {auth_url: 'http://all', username: u, password: p, project_name: p}}}";
    let place = Place::new().file("work/clouds.yaml", text);
    let project = |region: Option<&str>| {
        let found = place
            .find_in(None, region)
            .map_err(|error| error.to_string())?;
        match found.credentials {
            Credentials::Password { project, .. } => Ok((found.region, project)),
            other => panic!("{other:?}"),
        }
    };
    let of = |region: &str, project: &str| {
        Ok::<_, String>((Some(region.to_owned()), Named::Name(project.to_owned())))
    };
    assert_eq!(project(None), of("one", "p1"));
    assert_eq!(project(Some("two")), of("two", "p2"));
    assert_eq!(project(Some("three")), of("three", "p"));
    let why = project(Some("four")).unwrap_err();
    assert!(
        why.ends_with("there is no region `four`; there are: one, two, three"),
        "{why}"
    );
}

#[test]
fn an_application_credential_and_ids_are_taken_as_they_are() {
    let text = "clouds:\n  app:\n    auth_type: v3applicationcredential\n    auth: {auth_url: 'http://a', \
                application_credential_id: i, application_credential_secret: s}\n  \
                ids:\n    auth: {auth_url: 'http://a', user_id: u1, password: p, project_id: p1, domain_id: d1}\n";
    let place = Place::new().file("work/clouds.yaml", text);
    assert!(matches!(
        place.find(Some("app")).unwrap().credentials,
        Credentials::ApplicationCredential { id, .. } if id == "i"
    ));
    match place.find(Some("ids")).unwrap().credentials {
        Credentials::Password {
            username,
            project,
            project_domain,
            ..
        } => {
            let id = |text: &str| Named::Id(text.to_owned());
            assert_eq!(
                (username, project, project_domain),
                (id("u1"), id("p1"), id("d1"))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_used_is_told_with_its_place_and_without_its_secrets() {
    let auth = format!(
        "auth: {{auth_url: 'http://a', username: u, password: {PASSWORD}, project_name: p}}"
    );
    for (text, words) in [
        ("- no map", "map"),
        ("clouds: {a: {auth: {username: u}}}", "`auth_url`"),
        (
            "clouds: {a: {auth_type: v3oidcpassword, auth: {auth_url: u}}}",
            "`auth_type`",
        ),
        (
            "clouds: {a: {auth: {auth_url: u, username: u, password: x}}}",
            "`project_name`",
        ),
        (
            &format!("clouds: {{a: {{verify: false, {auth}}}}}"),
            "verified",
        ),
        (
            &format!("clouds: {{a: {{profile: rackspace, {auth}}}}}"),
            "`profile`",
        ),
        (
            &format!("clouds: {{a: {{interface: secret, {auth}}}}}"),
            "`interface`",
        ),
    ] {
        let error = Place::new()
            .file("work/clouds.yaml", text)
            .find(None)
            .unwrap_err();
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
    }
    let nothing = Place::new().find(None).unwrap_err();
    assert!(nothing.to_string().contains("clouds.yaml"), "{nothing}");
}
