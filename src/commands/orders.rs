//! Orders to a running engine: pause, resume, scale, replace, cancel, protect, adopt, maintenance.

use clap::Args;

use super::Out;
use super::client::{ClientError, ServerArgs};
use crate::api::{Order, OrderAnswer};
use crate::exit::Exit;

/// What every order has.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Why, for whoever reads the journal.
    #[arg(long)]
    why: String,
    /// The idempotency key: the same key twice is one order.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// `pause` and `resume`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The pool; all without it.
    pool: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// `scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The pool.
    pool: String,
    /// How many nodes.
    size: u32,
    #[command(flatten)]
    common: Common,
}

/// `replace`.
#[derive(Debug, Args)]
pub struct ReplaceArgs {
    /// The node.
    node: String,
    #[command(flatten)]
    common: Common,
}

/// `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The operation, as `rhizome status` lists it.
    operation: String,
    #[command(flatten)]
    common: Common,
}

/// `protect`.
#[derive(Debug, Args)]
pub struct ProtectArgs {
    /// The node.
    node: String,
    /// Take the protection off.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    common: Common,
}

/// What an order for a node or a whole pool is about.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// The node, or with `--pool` the pool.
    name: String,
    /// It is a pool.
    #[arg(long)]
    pool: bool,
}

/// `adopt`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    common: Common,
}

/// `maintenance`.
#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// For how long from now, as `2h`; `0s` ends it.
    #[arg(long = "for")]
    length: String,
    #[command(flatten)]
    common: Common,
}

/// An order on its way.
pub(super) struct Given {
    verb: &'static str,
    order: Order,
    server: ServerArgs,
}

impl Common {
    fn order(self, verb: &'static str, order: Order) -> Given {
        Given {
            verb,
            order: Order {
                key: self.key,
                who: std::env::var("USER").ok().filter(|user| !user.is_empty()),
                why: self.why,
                ..order
            },
            server: self.server,
        }
    }
}

impl PauseArgs {
    pub(super) fn order(self, verb: &'static str) -> Given {
        let pool = self.pool;
        self.common.order(
            verb,
            Order {
                pool,
                ..Order::default()
            },
        )
    }
}

impl ScaleArgs {
    pub(super) fn order(self) -> Given {
        let order = Order {
            pool: Some(self.pool),
            size: Some(self.size),
            ..Order::default()
        };
        self.common.order("scale", order)
    }
}

impl ReplaceArgs {
    pub(super) fn order(self) -> Given {
        let node = Some(self.node);
        self.common.order(
            "replace",
            Order {
                node,
                ..Order::default()
            },
        )
    }
}

impl CancelArgs {
    pub(super) fn order(self) -> Given {
        let operation = Some(self.operation);
        self.common.order(
            "cancel",
            Order {
                operation,
                ..Order::default()
            },
        )
    }
}

impl ProtectArgs {
    pub(super) fn order(self) -> Given {
        let order = Order {
            node: Some(self.node),
            off: Some(self.off),
            ..Order::default()
        };
        self.common.order("protect", order)
    }
}

impl TargetArgs {
    fn order(self) -> Order {
        let name = Some(self.name);
        let (node, pool) = if self.pool {
            (None, name)
        } else {
            (name, None)
        };
        Order {
            node,
            pool,
            ..Order::default()
        }
    }
}

impl AdoptArgs {
    pub(super) fn order(self) -> Given {
        self.common.order("adopt", self.target.order())
    }
}

impl MaintenanceArgs {
    pub(super) fn order(self) -> Given {
        let order = Order {
            length: Some(self.length),
            ..self.target.order()
        };
        self.common.order("maintenance", order)
    }
}

/// Gives an order and tells its answer.
pub(super) async fn give(given: Given, out: &Out) -> Result<Exit, ClientError> {
    let client = given.server.client()?;
    let path = format!("/v1/{}", given.verb);
    let answer: OrderAnswer = client.post(&path, &given.order, &[404, 409]).await?;
    if answer.granted {
        out.say(&format!("{}\n", answer.text));
        return Ok(Exit::Ok);
    }
    let reason = answer.reason.unwrap_or_default();
    out.complain(&format!(
        "not granted ({reason}): {}. `rhizome status` shows what stands in the way",
        answer.text
    ));
    Ok(Exit::Failed)
}
