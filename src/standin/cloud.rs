//! The stand-in cloud and cluster, served until it is stopped, and the work that comes and goes.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::time::{Clock, parse_duration};
use rhizome_standin::{Options, Phase, Place, Standin};

use super::StandinError;
use crate::clock::RealClock;

/// A build and a boot: a tenth of what real ones take, for people who watch.
const BUILD: Duration = Duration::from_secs(4);
const BOOT: Duration = Duration::from_secs(6);

/// As often as the collectds of the other machines.
const AGENT: Duration = Duration::from_secs(5);

/// How often it is looked whether the first nodes have come.
const LOOK: Duration = Duration::from_secs(1);

/// What can be said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct CloudArgs {
    /// Where OpenStack is to listen
    #[arg(long, default_value = "127.0.0.1:5000")]
    pub openstack: SocketAddr,
    /// Where Kubernetes is to listen
    #[arg(long, default_value = "127.0.0.1:6443")]
    pub kubernetes: SocketAddr,
    /// The name under which both are reached
    #[arg(long)]
    pub name: Option<String>,
    /// Where machines publish that no container plays
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// The topic that they publish to
    #[arg(long, default_value = "metrics")]
    pub topic: String,
    /// The work: so many cores for so long, again and again, from the first Ready node on
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "CORES:TIME,...",
        default_value = "4.8:90s,9.3:6m,3.6:6m"
    )]
    pub load: Vec<Spell>,
}

/// So much work for so long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spell {
    cores: f64,
    time: Duration,
}

impl FromStr for Spell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(cores, time)| {
            let cores: f64 = cores.trim().parse().ok()?;
            let time = parse_duration(time).ok()?;
            (cores.is_finite() && cores >= 0.0 && !time.is_zero()).then_some(Self { cores, time })
        });
        parts.ok_or_else(|| format!("`{text}` is not cores and a time: write it as `9.3:6m`"))
    }
}

/// Serves both until `stopped`.
///
/// # Errors
///
/// Returns why they cannot be served.
pub async fn serve(
    args: &CloudArgs,
    stopped: impl Future<Output = ()>,
) -> Result<(), StandinError> {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let place = Place {
        openstack: args.openstack,
        kubernetes: args.kubernetes,
        name: args.name.clone(),
    };
    let options = Options {
        build_time: BUILD,
        boot_time: BOOT,
        agent_interval: AGENT,
        ..Options::default()
    };
    let standin = Standin::start_at(place, options, Arc::clone(&clock))
        .await
        .map_err(StandinError::io("the stand-ins cannot listen"))?;
    super::publish(&standin, &args.brokers, &args.topic, clock)?;
    tracing::info!(
        openstack = %args.openstack,
        kubernetes = %args.kubernetes,
        "stand-in cloud and cluster are served"
    );
    tokio::select! {
        () = work(&standin, &args.load) => {}
        () = stopped => {}
    }
    standin.stop().await;
    Ok(())
}

/// Lets the work come and go, for ever.
async fn work(standin: &Standin, load: &[Spell]) {
    let serves = || {
        standin.world(|world| {
            let mut guests = world.guests.iter();
            guests.any(|guest| guest.phase == Phase::Up || guest.is_node())
        })
    };
    while !serves() {
        tokio::time::sleep(LOOK).await;
    }
    loop {
        for spell in load {
            tracing::info!("the work is for {} cores now", spell.cores);
            standin.world(|world| world.set_demand(spell.cores));
            tokio::time::sleep(spell.time).await;
        }
        if load.is_empty() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cores_and_a_time() {
        let spell: Spell = "9.3:6m".parse().unwrap();
        assert_eq!(
            spell,
            Spell {
                cores: 9.3,
                time: Duration::from_secs(360)
            }
        );
        for wrong in ["", "9", "9:", "9:0s", "-1:1m", "NaN:1m", "x:1m"] {
            assert!(wrong.parse::<Spell>().is_err(), "{wrong}");
        }
    }
}
