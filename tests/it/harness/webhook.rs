//! Where notifications go: it takes whatever is posted, and keeps it.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;

use super::lock;

/// A server that takes notifications.
pub(super) struct Webhook {
    /// Its address.
    pub(super) url: String,
    posts: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    /// Starts it, for as long as the runtime lives.
    pub(super) async fn start() -> Self {
        let posts = Arc::<Mutex<Vec<Value>>>::default();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&posts));
        tokio::spawn(async move { axum::serve(socket, router).await });
        Self { url, posts }
    }

    /// Everything that was posted, in its order.
    pub(super) fn posts(&self) -> Vec<Value> {
        lock(&self.posts).clone()
    }
}

async fn take(State(posts): State<Arc<Mutex<Vec<Value>>>>, Json(body): Json<Value>) {
    lock(&posts).push(body);
}
