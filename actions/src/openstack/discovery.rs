//! Version discovery: where the API of a service is whose catalog entry names no version.
//!
//! By the rules of keystoneauth (`keystoneauth1/discover.py`), which openstacksdk and the
//! command-line clients go by, as if each service were asked for with the version in [`Api`]:
//!
//! - an address that names a version which will do is used as it is, and nothing is asked;
//! - else project and version are taken off it, and what is left is asked for its document,
//!   without our token unless it wants one;
//! - of what is current, supported or deprecated there, the highest that will do is taken;
//! - its link gives the path, and never the host: links are often those behind a proxy. Where its
//!   host is another, its path is as well, and only its last part, the version, is believed;
//! - where nobody has a document, the catalog's address is used as it is.
//!
//! It chooses addresses. What is asked there, with which microversion, is `client.rs`'s to say.

use std::time::Duration;

use dashmap::DashMap;
use reqwest::{StatusCode, Url};
use rhizome_engine::action::{Failure, FailureKind};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Answer, Http};
use super::errors::Effect;

/// Addresses that are remembered: a catalog has two that concern us. One that gives others at each
/// look is asked again.
const MAX_REMEMBERED: usize = 16;
/// How long a document may take, in real time. It is made without a database, and while it is
/// waited for nothing else can be asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service's API as we need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Api {
    /// What the catalog calls it.
    pub(super) kind: &'static str,
    /// The lowest version that will do; higher ones of the same major version do as well.
    least: Version,
    /// What is put behind an address of which nobody knows more.
    guess: &'static str,
}

impl Api {
    /// Nova: v2.0 knows no microversions.
    pub(super) const COMPUTE: Self = Self {
        kind: "compute",
        least: Version(2, 1),
        guess: "",
    };
    /// Neutron, which never had another version.
    pub(super) const NETWORK: Self = Self {
        kind: "network",
        least: Version(2, 0),
        guess: "/v2.0",
    };

    /// The address that is taken when nobody can say better.
    pub(super) fn guess(self, catalog: &str) -> String {
        format!("{}{}", catalog.trim_end_matches('/'), self.guess)
    }

    fn takes(self, version: Version) -> bool {
        version.0 == self.least.0 && version >= self.least
    }
}

/// A version as documents and addresses write it: `v2.1`, or `v2` for 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    /// Reads `v2.1`. A bare number is none: in an address it is a project.
    fn read(text: &str) -> Option<Self> {
        let number = text.strip_prefix('v')?;
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// Finds addresses, and remembers those that a document led to.
#[derive(Default)]
pub(super) struct Discovery {
    found: DashMap<String, String>,
}

impl Discovery {
    /// Where the API is, without a slash at its end, for the address that the catalog gives.
    ///
    /// # Errors
    ///
    /// Returns a [`Failure`] to try again with when nobody can be asked, or nothing will do that
    /// there is.
    pub(super) async fn address(
        &self,
        http: &Http,
        api: Api,
        catalog: &str,
        project: Option<&str>,
        token: &SecretString,
    ) -> Result<String, Failure> {
        let place = match Place::of(catalog, project, api)? {
            Place::Versioned => return Ok(catalog.trim_end_matches('/').to_owned()),
            Place::Unversioned(place) => place,
        };
        if let Some(known) = self.found.get(catalog) {
            return Ok(known.clone());
        }
        for asked in place.choices() {
            let answer = ask(http, api, asked, token).await?;
            let Some(document) = Document::read(&answer) else {
                continue;
            };
            let mut address = document.choose(asked, api)?;
            if let Some(project) = &place.project {
                address = format!("{address}/{project}");
            }
            tracing::debug!(service = api.kind, %catalog, address, "a version is chosen");
            if self.found.len() >= MAX_REMEMBERED {
                self.found.clear();
            }
            self.found.insert(catalog.to_owned(), address.clone());
            return Ok(address);
        }
        tracing::warn!(
            service = api.kind,
            %catalog,
            "nobody has a list of versions there: the catalog's address is taken as it is"
        );
        Ok(api.guess(catalog))
    }
}

/// What an address in the catalog is.
enum Place {
    /// One with a version that will do.
    Versioned,
    /// One that has to be asked.
    Unversioned(Unversioned),
}

/// An address less what names a version or a project.
struct Unversioned {
    /// It is asked as the catalog writes it; and with a slash at its end, where it had none, for
    /// some proxies know no other.
    address: Url,
    with_slash: Url,
    /// The project that ended it.
    project: Option<String>,
}

impl Place {
    fn of(catalog: &str, project: Option<&str>, api: Api) -> Result<Self, Failure> {
        let bad = || {
            again(format!(
                "the catalog's address of {} is none: `{catalog}`",
                api.kind
            ))
        };
        let url = Url::parse(catalog).map_err(|_| bad())?;
        let path = url.path().trim_end_matches('/');
        let (rest, last) = path.rsplit_once('/').unwrap_or(("", ""));
        // Behind a version stands a project, whether we know it or not.
        let behind = || {
            let before = rest.rsplit_once('/').map_or("", |(_, part)| part);
            project.is_none() && Version::read(before).is_some()
        };
        let ends_in_project = !last.is_empty() && (project == Some(last) || behind());
        let (path, project) = if ends_in_project {
            (rest, Some(last.to_owned()))
        } else {
            (path, None)
        };
        let (rest, last) = path.rsplit_once('/').unwrap_or(("", ""));
        let version = Version::read(last);
        if version.is_some_and(|version| api.takes(version)) {
            return Ok(Self::Versioned);
        }
        let path = if version.is_some() { rest } else { path };
        let mut with_slash = url.clone();
        with_slash.set_path(&format!("{path}/"));
        let mut address = with_slash.clone();
        if version.is_none() && project.is_none() && !catalog.ends_with('/') {
            address.set_path(path);
        }
        Ok(Self::Unversioned(Unversioned {
            address,
            with_slash,
            project,
        }))
    }
}

impl Unversioned {
    fn choices(&self) -> impl Iterator<Item = &Url> {
        let second = (self.address != self.with_slash).then_some(&self.with_slash);
        std::iter::once(&self.address).chain(second)
    }
}

/// Asks for a document. An answer that is none is an answer; that the service is not well is not.
async fn ask(http: &Http, api: Api, url: &Url, token: &SecretString) -> Result<Answer, Failure> {
    const CALL: &str = "version discovery";
    let request = || {
        http.client
            .get(url.clone())
            .header("Accept", "application/json")
    };
    let send = async {
        let answer = http.send(CALL, Effect::Looks, request(), &[token]).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let with_token = request().header("X-Auth-Token", super::client::sensitive(token));
        http.send(CALL, Effect::Looks, with_token, &[token]).await
    };
    let answer = tokio::time::timeout(PATIENCE, send)
        .await
        .unwrap_or_else(|_| {
            Err(again(format!(
                "{CALL}: {} did not answer at {url} within {PATIENCE:?}",
                api.kind
            )))
        })?;
    if answer.status.is_server_error() {
        return Err(answer.failure(CALL, Effect::Looks, &[token]));
    }
    Ok(answer)
}

/// The versions that a service tells of.
struct Document(Vec<Row>);

#[derive(Deserialize)]
struct Row {
    id: String,
    status: String,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    rel: String,
    href: String,
}

impl Document {
    /// The document in an answer; none if it holds none. Keystone and others answer with 300.
    fn read(answer: &Answer) -> Option<Self> {
        if !answer.status.is_success() && answer.status != StatusCode::MULTIPLE_CHOICES {
            return None;
        }
        let body: Value = serde_json::from_str(&answer.text).ok()?;
        let rows = [
            body.pointer("/versions/values"),
            body.get("versions"),
            body.get("version"),
        ];
        let rows = match rows.into_iter().flatten().next()? {
            Value::Array(rows) => rows.clone(),
            one @ Value::Object(_) => vec![one.clone()],
            _ => return None,
        };
        // What lacks something is passed over; the others may do.
        let rows = rows.into_iter().filter_map(|row| {
            let row: Row = serde_json::from_value(row).ok()?;
            let known = ["STABLE", "CURRENT", "SUPPORTED", "DEPRECATED"];
            known
                .contains(&row.status.to_ascii_uppercase().as_str())
                .then_some(row)
        });
        Some(Self(rows.collect()))
    }

    /// The address of the highest version that will do.
    fn choose(&self, asked: &Url, api: Api) -> Result<String, Failure> {
        let doing = self.0.iter().filter_map(|row| {
            let version = Version::read(&row.id).filter(|version| api.takes(*version))?;
            let link = row
                .links
                .iter()
                .find(|link| link.rel.eq_ignore_ascii_case("self"))?;
            Some((version, combine(asked, &link.href)?))
        });
        let best = doing.max_by_key(|(version, _)| *version);
        let Some((_, url)) = best else {
            let there: Vec<&str> = self.0.iter().map(|row| row.id.as_str()).collect();
            let Version(major, minor) = api.least;
            return Err(again(format!(
                "the {} service at {asked} offers {}, and Rhizome needs v{major}.{minor} or a later \
                 v{major}: upgrade it, or give the catalog the address of one that does",
                api.kind,
                if there.is_empty() {
                    "no version".to_owned()
                } else {
                    there.join(", ")
                },
            )));
        };
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}

/// The address that a link of a document leads to.
fn combine(asked: &Url, href: &str) -> Option<Url> {
    let mut base = asked.clone();
    let folder = asked.path().trim_end_matches('/').to_owned();
    // A relative link begins below the document, whether or not that ends in a slash.
    base.set_path(&format!("{folder}/"));
    let link = base.join(href).ok()?;
    let whose = |url: &Url| (url.host_str().map(str::to_owned), url.port());
    let path = if whose(&link) == whose(asked) {
        link.path().to_owned()
    } else {
        let version = href.trim_end_matches('/').rsplit('/').next()?;
        if folder.ends_with(version) {
            folder
        } else {
            format!("{folder}/{version}")
        }
    };
    let mut url = asked.clone();
    url.set_path(&path);
    Some(url)
}

fn again(what: String) -> Failure {
    Failure::new(FailureKind::Retry { after: None }, what)
}

#[cfg(test)]
mod tests;
