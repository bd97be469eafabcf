//! Credentials as openstacksdk finds them: `clouds.yaml`, `secure.yaml` and `OS_*`, in its order.
//!
//! The order is that of openstacksdk's `config/loader.py`: the first `clouds` file that there is
//! (`$OS_CLIENT_CONFIG_FILE`, then the working folder, `~/.config/openstack`, `/etc/openstack`),
//! the first `secure` file merged over it, and the variables `OS_*` as one cloud more, `envvars`,
//! which is taken unless a cloud is named. Nothing of a secret reaches a message.

mod files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Credentials, Interface, Named};
use files::{load, merge_maps, searched};

/// The name of the cloud that `OS_*` make up.
const FROM_VARIABLES: &str = "envvars";
/// Variables that choose, and are no cloud by themselves.
const SELECTORS: [&str; 5] = [
    "OS_CLOUD",
    "OS_REGION_NAME",
    "OS_CLIENT_CONFIG_FILE",
    "OS_CLIENT_SECURE_FILE",
    "OS_CLOUD_NAME",
];
/// Beginnings of variables that are others'.
const NOT_OURS: [&str; 3] = ["OS_TEST", "OS_STD", "OS_LOG"];
/// Keys of a cloud's `auth` that may stand outside of it as well, each with the ways to write it,
/// the older first. What stands in `auth` wins.
const AUTH_KEYS: [(&str, &[&str]); 6] = [
    ("auth_url", &["auth_url"]),
    ("username", &["user_name", "username"]),
    ("user_id", &["user_id"]),
    ("password", &["password"]),
    ("application_credential_id", &["application_credential_id"]),
    (
        "application_credential_secret",
        &["application_credential_secret"],
    ),
];
/// The same of those that say of what the token is. Here what stands outside of `auth` wins.
const SCOPE_KEYS: [(&str, &[&str]); 8] = [
    ("domain_id", &["domain_id"]),
    ("domain_name", &["domain_name"]),
    ("user_domain_id", &["user_domain_id"]),
    ("user_domain_name", &["user_domain_name"]),
    ("project_domain_id", &["project_domain_id"]),
    ("project_domain_name", &["project_domain_name"]),
    ("project_id", &["tenant_id", "project_id"]),
    ("project_name", &["tenant_name", "project_name"]),
];

/// Where this program runs, as far as the order asks for it.
pub struct Surroundings {
    /// The environment's variables.
    pub variables: BTreeMap<String, String>,
    /// The working folder.
    pub folder: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn here() -> Self {
        Self {
            variables: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            folder: std::env::current_dir().unwrap_or_default(),
        }
    }
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it came from, for a person: the file and the cloud, or the variables.
    pub source: String,
    /// Keystone's address.
    pub auth_url: String,
    /// Who we are.
    pub credentials: Credentials,
    /// The region.
    pub region: Option<String>,
    /// Which endpoints.
    pub interface: Interface,
    /// A CA to trust.
    pub ca: Option<PathBuf>,
}

/// Why nothing can be made of what there is.
#[derive(Debug, thiserror::Error)]
pub enum CloudsError {
    /// A file is no YAML, or no map. Never with the parser's words: they quote the file.
    #[error("`{}` cannot be read as a file of clouds: it is a map with the key `clouds`", .0.display())]
    File(PathBuf),
    /// The named cloud is not there.
    #[error("there is no cloud `{name}`; there are: {there}")]
    Unknown {
        /// It.
        name: String,
        /// Those that there are.
        there: String,
    },
    /// A file has a cloud of the name under which the variables stand.
    #[error(
        "`{name}` is the name of the cloud that `OS_*` make up, and {files} has one of that name: rename it, or set `OS_CLOUD_NAME` to another name"
    )]
    Taken {
        /// It.
        name: String,
        /// The files.
        files: String,
    },
    /// Nothing was found.
    #[error(
        "no credentials for OpenStack were found: add `openstack.auth_url` with `application_credential` or `password`, or a `clouds.yaml` ({searched}), or set `OS_*`"
    )]
    Nothing {
        /// Where was looked.
        searched: String,
    },
    /// Several clouds, and none is named.
    #[error("there are several clouds ({there}): name one as `openstack.cloud`, or set `OS_CLOUD`")]
    Several {
        /// They.
        there: String,
    },
    /// A value is missing, or is one that we cannot use.
    #[error("{source_of}: {what}")]
    Value {
        /// Where it stands.
        source_of: String,
        /// What is wrong and what to do.
        what: String,
    },
}

/// Finds the cloud `name`, or the one that is meant without a name, as it is in `region`, or in its first.
///
/// # Errors
///
/// Returns why none can be had.
pub fn find(
    name: Option<&str>,
    region: Option<&str>,
    around: &Surroundings,
) -> Result<Found, CloudsError> {
    let (files, mut clouds) = load(around)?;
    let variable = |key: &str| around.variables.get(key).filter(|value| !value.is_empty());
    let from_variables = variable("OS_CLOUD_NAME")
        .map_or(FROM_VARIABLES, String::as_str)
        .to_owned();
    let shown = || {
        let files = files.iter().map(|file| format!("`{}`", file.display()));
        files.collect::<Vec<_>>().join(" and ")
    };
    if clouds.contains_key(&from_variables) {
        return Err(CloudsError::Taken {
            name: from_variables,
            files: shown(),
        });
    }
    let mut default = variable("OS_CLOUD").cloned();
    if let Some(cloud) = of_variables(&around.variables) {
        clouds.insert(from_variables.clone(), Value::Object(cloud));
        default.get_or_insert(from_variables.clone());
    }
    if default.is_none() && clouds.len() == 1 {
        default = clouds.keys().next().cloned();
    }
    let there = clouds.keys().cloned().collect::<Vec<_>>().join(", ");
    let name = match (name.map(str::to_owned).or(default), clouds.is_empty()) {
        (None, true) => {
            return Err(CloudsError::Nothing {
                searched: searched(around),
            });
        }
        (None, false) => return Err(CloudsError::Several { there }),
        (Some(name), _) => name,
    };
    let Some(Value::Object(cloud)) = clouds.remove(&name) else {
        return Err(CloudsError::Unknown { name, there });
    };
    let source = if name == from_variables {
        let names: Vec<_> = ours(&around.variables)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        format!("the variables {}", names.join(", "))
    } else {
        format!("the cloud `{name}` in {}", shown())
    };
    read(cloud, region, source, variable("HOME"))
}

/// The variables that openstacksdk makes a cloud of.
fn ours(variables: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    variables.iter().filter(|(name, _)| {
        name.starts_with("OS_") && !NOT_OURS.iter().any(|others| name.starts_with(others))
    })
}

/// The cloud that the variables make up; none if they only choose.
fn of_variables(variables: &BTreeMap<String, String>) -> Option<Map<String, Value>> {
    ours(variables)
        .any(|(name, _)| !SELECTORS.contains(&name.as_str()))
        .then(|| {
            ours(variables)
                .filter_map(|(name, value)| {
                    let key = name.strip_prefix("OS_")?.to_lowercase();
                    Some((key, Value::String(value.clone())))
                })
                .collect()
        })
}

/// A cloud's keys, `-` read as `_`, its numbers and its `auth` as texts.
struct Cloud<'a> {
    source: &'a str,
    keys: BTreeMap<String, String>,
    auth: BTreeMap<String, String>,
}

fn texts(map: &Map<String, Value>) -> BTreeMap<String, String> {
    map.iter()
        .filter_map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => return None,
            };
            Some((key.replace('-', "_"), text))
        })
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

impl Cloud<'_> {
    fn wrong(&self, what: impl Into<String>) -> CloudsError {
        CloudsError::Value {
            source_of: self.source.to_owned(),
            what: what.into(),
        }
    }

    fn auth(&self, key: &str) -> Option<&String> {
        self.auth.get(key)
    }

    fn need(&self, key: &str) -> Result<String, CloudsError> {
        self.auth(key)
            .cloned()
            .ok_or_else(|| self.wrong(format!("`{key}` is missing: add it to its `auth`")))
    }

    /// A user, project or domain by id or by name, the id first.
    fn named(&self, id: &str, name: &str) -> Option<Named> {
        let by_id = self.auth(id).cloned().map(Named::Id);
        by_id.or_else(|| self.auth(name).cloned().map(Named::Name))
    }

    fn credentials(&self) -> Result<Credentials, CloudsError> {
        let kind = self.keys.get("auth_type").or(self.keys.get("auth_plugin"));
        let kind = kind.map_or("password", String::as_str);
        match kind.trim_start_matches("v3") {
            "applicationcredential" | "application_credential" => {
                Ok(Credentials::ApplicationCredential {
                    id: self.need("application_credential_id").map_err(|_| {
                        self.wrong("`application_credential_id` is missing: a credential is named by its id here")
                    })?,
                    secret: self.need("application_credential_secret")?.into(),
                })
            }
            "password" => self.password(),
            _ => Err(self.wrong(format!(
                "the `auth_type` `{kind}` cannot be used: it is `password` or `v3applicationcredential`"
            ))),
        }
    }

    fn password(&self) -> Result<Credentials, CloudsError> {
        let user = self.named("user_id", "username");
        let project = self.named("project_id", "project_name");
        let domain = |whose: &str| {
            let own = self.named(
                &format!("{whose}_domain_id"),
                &format!("{whose}_domain_name"),
            );
            let shared = || self.named("domain_id", "domain_name");
            own.or_else(shared)
                .unwrap_or_else(|| Named::Id("default".to_owned()))
        };
        Ok(Credentials::Password {
            username: user
                .ok_or_else(|| self.wrong("`username` is missing: add it to its `auth`"))?,
            user_domain: domain("user"),
            password: self.need("password")?.into(),
            project: project.ok_or_else(|| {
                self.wrong(
                    "`project_name` is missing: a token without a project is good for nothing here",
                )
            })?,
            project_domain: domain("project"),
        })
    }
}

/// The region that is meant, by its name or the first, and the cloud with the values that it has there.
///
/// # Errors
///
/// Returns those that there are, if the one that is wanted is none of them.
fn in_region(
    mut cloud: Map<String, Value>,
    wanted: Option<&str>,
) -> Result<(Option<String>, Map<String, Value>), String> {
    let name_of = |region: &Value| match region {
        Value::Object(region) => region
            .get("name")
            .and_then(Value::as_str)
            .map(str::to_owned),
        region => region.as_str().map(str::to_owned),
    };
    let listed = match cloud.get("regions").or(cloud.get("region_name")) {
        Some(Value::Array(regions)) => regions.clone(),
        _ => {
            let texts = texts(&cloud);
            let names = texts.get("region_name").map(String::as_str);
            let first = names.and_then(|names| names.split(',').next());
            return Ok((wanted.or(first).map(str::to_owned), cloud));
        }
    };
    let meant = match wanted {
        None => listed.first(),
        Some(wanted) => listed
            .iter()
            .find(|region| name_of(region).as_deref() == Some(wanted)),
    };
    let Some(meant) = meant else {
        let Some(wanted) = wanted else {
            return Ok((None, cloud));
        };
        let there: Vec<_> = listed.iter().filter_map(name_of).collect();
        return Err(format!(
            "there is no region `{wanted}`; there are: {}",
            there.join(", ")
        ));
    };
    if let Some(Value::Object(values)) = meant.get("values") {
        // One that is left empty there changes nothing.
        let set = values.iter().filter(|(_, value)| !value.is_null());
        let set = set.map(|(key, value)| (key.clone(), value.clone()));
        merge_maps(&mut cloud, set.collect());
    }
    Ok((name_of(meant), cloud))
}

/// Makes of a cloud's keys what the client needs.
fn read(
    cloud: Map<String, Value>,
    region: Option<&str>,
    source: String,
    home: Option<&String>,
) -> Result<Found, CloudsError> {
    let (region, cloud) = in_region(cloud, region).map_err(|what| CloudsError::Value {
        source_of: source.clone(),
        what,
    })?;
    let keys = texts(&cloud);
    let mut auth = cloud
        .get("auth")
        .and_then(Value::as_object)
        .map(texts)
        .unwrap_or_default();
    for (key, ways) in AUTH_KEYS {
        let newest = |map: &BTreeMap<String, String>| {
            let mut found = ways.iter().rev().filter_map(|way| map.get(*way));
            found.next().cloned()
        };
        let value = newest(&auth).or_else(|| newest(&keys));
        auth.extend(value.map(|value| (key.to_owned(), value)));
    }
    for (key, ways) in SCOPE_KEYS {
        let either = |way: &&str| keys.get(*way).or(auth.get(*way)).cloned();
        let value = ways.iter().rev().find_map(either);
        auth.extend(value.map(|value| (key.to_owned(), value)));
    }
    let cloud_keys = Cloud {
        source: &source,
        keys,
        auth,
    };
    let wrong = |what: &str| cloud_keys.wrong(what);
    if cloud.contains_key("profile") || cloud.contains_key("cloud") {
        return Err(wrong(
            "a vendor's `profile` cannot be used: write its `auth_url` out",
        ));
    }
    let off = |key: &str, value: &str| {
        cloud_keys
            .keys
            .get(key)
            .is_some_and(|text| text.eq_ignore_ascii_case(value))
    };
    if off("verify", "false") || off("insecure", "true") {
        return Err(wrong(
            "certificates are always verified: name the CA as `cacert`",
        ));
    }
    let interface = ["interface", "endpoint_type"]
        .iter()
        .rev()
        .find_map(|key| cloud_keys.keys.get(*key));
    let interface = interface.map(|text| text.trim_end_matches("URL").to_lowercase());
    Ok(Found {
        auth_url: cloud_keys.need("auth_url")?,
        credentials: cloud_keys.credentials()?,
        region,
        interface: match interface.as_deref() {
            None | Some("public") => Interface::Public,
            Some("internal") => Interface::Internal,
            Some("admin") => Interface::Admin,
            Some(_) => {
                return Err(wrong(
                    "its `interface` is none of `public`, `internal` and `admin`",
                ));
            }
        },
        ca: cloud_keys
            .keys
            .get("cacert")
            .map(|path| match (path.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => Path::new(home).join(rest),
                _ => path.into(),
            }),
        source,
    })
}

#[cfg(test)]
mod tests;
