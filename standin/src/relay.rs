//! The same faults, and the same ledger, in front of real services.
//!
//! A relay stands between a client and Keystone, Nova, Neutron or an API server. To the client it
//! has the addresses that a stand-in has (`/compute`, `/network`, `/v3`), so one rule means the
//! same in front of both. It passes on what no rule meets, and writes everything down. What became
//! of a request it knows by the status of the answer alone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Certificate, Client};
use rhizome_engine::time::Clock;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::faults::{Faults, Rule, RuleId};
use crate::front::Front;
use crate::http::{Answer, Api, Broken, Content, Request};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::world::World;
use crate::{Place, listen};

/// How long a service may take with an answer. Longer than any client waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// What belongs to one connection, or is said anew on the next.
const OF_THE_CONNECTION: [&str; 7] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "content-type",
    "host",
    "accept-encoding",
];

/// Where real services are. What is empty is not there.
#[derive(Debug, Clone, Default)]
pub struct Real {
    /// Keystone, with `/v3` or without.
    pub keystone: String,
    /// Nova, as the catalog has it.
    pub compute: String,
    /// Neutron, as the catalog has it.
    pub network: String,
    /// The API server.
    pub kubernetes: String,
    /// The API server's CA, as PEM.
    pub ca: Vec<u8>,
}

/// A relay that runs. It stops when it is dropped.
pub struct Relay {
    front: Arc<Front>,
    openstack: SocketAddr,
    kubernetes: SocketAddr,
}

impl Relay {
    /// Starts one on two free ports of the loopback address. `clock` is what its delays run on.
    ///
    /// # Errors
    ///
    /// Returns the error of the system when no port can be had, and one for a CA that is none.
    pub async fn start(real: &Real, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let world = World::new(Arc::new(Options::default()), clock.now().wall);
        let front = Arc::new(Front::before(Behind::new(real)?, world, clock));
        let place = Place::default();
        Ok(Self {
            openstack: listen(Api::OpenStack, place.openstack, None, &front).await?,
            kubernetes: listen(Api::Kubernetes, place.kubernetes, None, &front).await?,
            front,
        })
    }

    /// Where Keystone is to its clients, without `/v3`.
    pub fn openstack_url(&self) -> String {
        format!("http://{}", self.openstack)
    }

    /// Where the API server is to its clients.
    pub fn kubernetes_url(&self) -> String {
        format!("http://{}", self.kubernetes)
    }

    /// Adds a rule; none if what it asks for can only be done by a world of our own.
    pub fn fault(&self, rule: Rule) -> Option<RuleId> {
        let can = rule.fault().is_of_the_wire();
        can.then(|| self.front.with(|world, faults| faults.add(rule, world)))
    }

    /// Looks at the faults, or changes them.
    pub fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        self.front.with(|_, faults| change(faults))
    }

    /// What was asked up to now. There are no facts in it: what happened, the services know.
    pub fn ledger(&self) -> Ledger {
        self.front.with(|world, _| world.ledger.clone())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.front.stop.cancel();
    }
}

/// The services behind a relay.
pub(crate) struct Behind {
    client: Client,
    /// What a path begins with here, and what stands in its place there: the longest first.
    openstack: Vec<(&'static str, String)>,
    kubernetes: Vec<(&'static str, String)>,
}

impl Behind {
    fn new(real: &Real) -> io::Result<Self> {
        // A relay that connects anew each time never takes up a connection that is about to end.
        let mut client = Client::builder()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none());
        if !real.ca.is_empty() {
            let ca = Certificate::from_pem(&real.ca).map_err(io::Error::other)?;
            client = client.tls_certs_only([ca]);
        }
        let at = |prefix, url: &str, version| {
            let url = url.trim_end_matches('/');
            (prefix, url.strip_suffix(version).unwrap_or(url).to_owned())
        };
        let there = |services: Vec<(&'static str, String)>| {
            let there = |(_, url): &(_, String)| !url.is_empty();
            services.into_iter().filter(there).collect()
        };
        Ok(Self {
            client: client.build().map_err(io::Error::other)?,
            openstack: there(vec![
                at("/compute", &real.compute, "/v2.1"),
                at("/network", &real.network, "/v2.0"),
                at("", &real.keystone, "/v3"),
            ]),
            kubernetes: there(vec![at("", &real.kubernetes, "")]),
        })
    }

    fn services(&self, api: Api) -> &[(&'static str, String)] {
        match api {
            Api::OpenStack => &self.openstack,
            Api::Kubernetes => &self.kubernetes,
        }
    }

    /// Asks the service that a request is for.
    pub(crate) async fn carry_out(&self, request: &Request) -> Answer {
        match self.ask(request).await {
            Ok(answer) => answer,
            // As any relay says it.
            Err(error) => Answer::text(502, format!("the service does not answer: {error}\n")),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, reqwest::Error> {
        let services = self.services(request.api);
        let Some((path, url)) = services.iter().find_map(|(prefix, url)| {
            let rest = request.path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((rest, url))
        }) else {
            return Ok(Answer::text(502, "there is no such service\n"));
        };
        let query = match request.raw_query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let mut asked = self
            .client
            .request(request.method.clone(), format!("{url}{path}{query}"))
            .body(request.body.clone());
        for (name, value) in &request.headers {
            if name == "content-type" || !OF_THE_CONNECTION.contains(&name.as_str()) {
                asked = asked.header(name, value);
            }
        }
        let watches = request.api == Api::Kubernetes && request.flag("watch");
        if !watches {
            asked = asked.timeout(PATIENCE);
        }
        let response = asked.send().await?;
        let mut answer = Answer::empty(response.status().as_u16());
        answer.effect = response.status().is_success();
        let here = |text: &str| to_here(text, services, &request.base);
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str()
                && !OF_THE_CONNECTION.contains(&name.as_str())
            {
                let name = name.as_str().to_owned();
                answer.headers.push((name.into(), here(value)));
            }
        }
        if watches && response.status().is_success() {
            answer.content = Content::Open(Box::new(response));
            return Ok(answer);
        }
        let text = here(&response.text().await?);
        answer.content = match serde_json::from_str::<Value>(&text) {
            Ok(body) => Content::Json(body),
            Err(_) if text.is_empty() => Content::Empty,
            Err(_) => Content::Text(text),
        };
        Ok(answer)
    }

    /// Takes a token out of Keystone, in its own name.
    pub(crate) async fn withdraw(&self, token: &str) {
        let Some((_, keystone)) = self.openstack.last() else {
            return;
        };
        let asked = self
            .client
            .delete(format!("{keystone}/v3/auth/tokens"))
            .header("x-auth-token", token)
            .header("x-subject-token", token)
            .timeout(PATIENCE);
        if let Err(error) = asked.send().await {
            tracing::warn!(%error, "the token was not withdrawn");
        }
    }
}

/// Puts our address where a service's own stands: in the catalog, in links, in places.
fn to_here(text: &str, services: &[(&'static str, String)], base: &str) -> String {
    services
        .iter()
        .fold(text.to_owned(), |text, (prefix, url)| {
            text.replace(url.as_str(), &format!("{base}{prefix}"))
        })
}

/// Passes a watch on, until one side ends it or a switch breaks it off. While watches are to be
/// silent nothing is taken from the API server, and the connection stays.
pub(crate) async fn pass_on(
    front: Arc<Front>,
    mut watch: reqwest::Response,
    out: mpsc::Sender<Result<Bytes, Broken>>,
) {
    let mut changed = front.changes();
    loop {
        let (silent, down) = front.with(|_, faults| (faults.watches_silent, faults.kube_down));
        if down {
            // The reader learns that it is broken off; if it is gone already, all the better.
            let _ = out.send(Err(Broken)).await;
            return;
        }
        let bytes = tokio::select! {
            () = front.stop.cancelled() => return,
            () = out.closed() => return,
            more = changed.changed() => {
                if more.is_err() {
                    return;
                }
                continue;
            }
            chunk = watch.chunk(), if !silent => match chunk {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => return,
                Err(_) => Err(Broken),
            },
        };
        if out.send(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_own_address_is_put_as_ours_wherever_it_stands() {
        let services = [
            ("/compute", "http://127.0.0.1:20001".to_owned()),
            ("", "http://127.0.0.1:20002".to_owned()),
        ];
        let text = r#"{"a":"http://127.0.0.1:20001/v2.1/x","b":"http://127.0.0.1:20002/v3"}"#;
        assert_eq!(
            to_here(text, &services, "http://127.0.0.1:9"),
            r#"{"a":"http://127.0.0.1:9/compute/v2.1/x","b":"http://127.0.0.1:9/v3"}"#
        );
    }
}
