//! Where notifications go: it takes whatever is posted, and keeps it.

use std::sync::atomic::{AtomicBool, Ordering};
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
    chat: Arc<Chat>,
}

#[derive(Default)]
struct Chat {
    posts: Mutex<Vec<Value>>,
    /// It takes what is posted, and never says so.
    hangs: AtomicBool,
}

impl Webhook {
    /// Starts it, for as long as the runtime lives.
    pub(super) async fn start() -> Self {
        let chat = Arc::<Chat>::default();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&chat));
        tokio::spawn(async move { axum::serve(socket, router).await });
        Self { url, chat }
    }

    /// Everything that was posted, in its order.
    pub(super) fn posts(&self) -> Vec<Value> {
        lock(&self.chat.posts).clone()
    }

    /// Whether it answers what is posted from now on.
    pub(super) fn answers(&self, answers: bool) {
        self.chat.hangs.store(!answers, Ordering::SeqCst);
    }
}

async fn take(State(chat): State<Arc<Chat>>, Json(body): Json<Value>) {
    lock(&chat.posts).push(body);
    if chat.hangs.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}
