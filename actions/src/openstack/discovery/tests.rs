use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// What an address comes to: nothing, if it is used as it is; else what is asked, and the project
/// that is put back.
fn place(catalog: &str, project: Option<&str>, api: Api) -> Option<(Vec<String>, Option<String>)> {
    match Place::of(catalog, project, api).unwrap() {
        Place::Versioned => None,
        Place::Unversioned(place) => {
            let asked = place.choices().map(Url::to_string).collect();
            Some((asked, place.project))
        }
    }
}

#[test]
fn an_address_with_a_version_that_will_do_is_used_as_it_is() {
    for (catalog, project, api) in [
        ("http://cloud/compute/v2.1", None, Api::COMPUTE),
        ("http://cloud:8774/v2.1/", None, Api::COMPUTE),
        ("http://cloud:8774/v2.1/abc", Some("abc"), Api::COMPUTE),
        // Of a project that we were not told: what stands behind a version is one.
        ("http://cloud:8774/v2.1/abc", None, Api::COMPUTE),
        ("http://cloud:9696/v2.0", None, Api::NETWORK),
        ("http://cloud/networking/v2/", None, Api::NETWORK),
    ] {
        assert_eq!(place(catalog, project, api), None, "{catalog}");
    }
}

#[test]
fn what_is_asked_is_the_address_less_version_and_project() {
    // In the catalog, our project, whose it is; what is asked, and the project that was in it.
    type Row<'a> = (
        &'a str,
        Option<&'a str>,
        Api,
        &'a [&'a str],
        Option<&'a str>,
    );
    let rows: [Row<'_>; 9] = [
        (
            "http://cloud:9696/",
            None,
            Api::NETWORK,
            &["http://cloud:9696/"],
            None,
        ),
        (
            "http://cloud:9696",
            None,
            Api::NETWORK,
            &["http://cloud:9696/"],
            None,
        ),
        (
            "http://cloud/compute",
            None,
            Api::COMPUTE,
            &["http://cloud/compute", "http://cloud/compute/"],
            None,
        ),
        (
            "http://cloud/compute/",
            None,
            Api::COMPUTE,
            &["http://cloud/compute/"],
            None,
        ),
        // Nova's first API knows no microversions.
        (
            "http://cloud/compute/v2",
            None,
            Api::COMPUTE,
            &["http://cloud/compute/"],
            None,
        ),
        (
            "http://cloud:8774/v2/abc",
            Some("abc"),
            Api::COMPUTE,
            &["http://cloud:8774/"],
            Some("abc"),
        ),
        (
            "http://cloud:8774/v2/abc/",
            None,
            Api::COMPUTE,
            &["http://cloud:8774/"],
            Some("abc"),
        ),
        (
            "http://cloud/compute/abc",
            Some("abc"),
            Api::COMPUTE,
            &["http://cloud/compute/"],
            Some("abc"),
        ),
        // A number is a project, and nobody's version.
        (
            "http://cloud/2",
            None,
            Api::COMPUTE,
            &["http://cloud/2", "http://cloud/2/"],
            None,
        ),
    ];
    for (catalog, project, api, asked, kept) in rows {
        let asked = asked.iter().map(|&one| one.to_owned()).collect();
        let kept = kept.map(str::to_owned);
        let found = place(catalog, project, api);
        assert_eq!(found, Some((asked, kept)), "{catalog}");
    }
}

#[test]
fn an_address_that_is_none_is_told() {
    let failure = Place::of("cloud/compute", None, Api::COMPUTE)
        .err()
        .unwrap();
    assert!(failure.message.contains("`cloud/compute`"), "{failure}");
}

/// The rows follow `_combine_relative_url` of keystoneauth.
#[test]
fn a_links_path_is_followed_and_its_host_is_not() {
    for (asked, href, wanted) in [
        // One host: its path, whatever it is; but our scheme.
        (
            "http://cloud/compute",
            "http://cloud/compute/v2.1/",
            "http://cloud/compute/v2.1/",
        ),
        (
            "https://cloud/compute/",
            "http://cloud/nova/v2.1",
            "https://cloud/nova/v2.1",
        ),
        // Another host or port: its last part alone.
        (
            "https://cloud/compute",
            "http://10.0.0.5:8774/v2.1/",
            "https://cloud/compute/v2.1",
        ),
        (
            "http://cloud:9696/",
            "http://cloud:19696/deep/v2.0/",
            "http://cloud:9696/v2.0",
        ),
        (
            "http://cloud/net/v2.0/",
            "http://inside/v2.0",
            "http://cloud/net/v2.0",
        ),
        // Relative ones.
        (
            "http://cloud/compute",
            "v2.1/",
            "http://cloud/compute/v2.1/",
        ),
        ("http://cloud/compute", "/v2.1/", "http://cloud/v2.1/"),
        ("https://cloud/a", "//cloud/b/v2.1", "https://cloud/b/v2.1"),
    ] {
        let found = combine(&url(asked), href).map(String::from);
        assert_eq!(found.as_deref(), Some(wanted), "{asked} and {href}");
    }
}
