//! A real Kafka and a real collectd, as tests use them; `scripts` brings them up.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::scripts::{Shared, env, run};

/// The broker that all tests of this process share.
pub struct Kafka {
    env: BTreeMap<String, String>,
}

/// Tests that need the broker to stay hold this for reading; those that stop it, for writing.
static CALM: RwLock<()> = RwLock::new(());

/// The broker, for a test that leaves it running.
pub fn kafka() -> Option<(&'static Kafka, RwLockReadGuard<'static, ()>)> {
    let calm = CALM.read().unwrap_or_else(PoisonError::into_inner);
    Some((shared()?, calm))
}

/// The broker, for a test that stops it.
pub fn kafka_alone() -> Option<(&'static Kafka, RwLockWriteGuard<'static, ()>)> {
    let alone = CALM.write().unwrap_or_else(PoisonError::into_inner);
    Some((shared()?, alone))
}

fn shared() -> Option<&'static Kafka> {
    static KAFKA: Shared<Kafka> = Shared::new("kafka");
    KAFKA.get(|| {
        // What an earlier run left behind would be found again.
        let up = run("kafka", "down", &["--wipe"], &[]) && run("kafka", "up", &[], &[]);
        up.then(|| Kafka { env: env("kafka") })
    })
}

impl Kafka {
    /// A value of the broker's `env` file.
    pub fn get(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// The listener that lets everyone do everything.
    pub fn plain(&self) -> &str {
        self.get("plain")
    }

    pub fn stop(&self) {
        assert!(run("kafka", "down", &[], &[]));
    }

    pub fn kill(&self) {
        assert!(run("kafka", "down", &["--kill"], &[]));
    }

    pub fn start(&self) {
        assert!(run("kafka", "up", &[], &[]));
    }

    pub fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]);
    }

    pub fn create_with(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        // A topic of that name may just be going away.
        for _ in 0..100 {
            let created = block_on(self.admin().create_topics([&new], &AdminOptions::new()));
            match created.unwrap().pop().unwrap() {
                Ok(_) => return,
                Err((_, code)) => assert_eq!(format!("{code:?}"), "TopicAlreadyExists"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("`{topic}` cannot be created");
    }

    pub fn delete(&self, topic: &str) {
        let deleted = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new()));
        deleted.unwrap().pop().unwrap().unwrap();
    }

    pub fn grow(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let grown = block_on(self.admin().create_partitions([&new], &AdminOptions::new()));
        grown.unwrap().pop().unwrap().unwrap();
    }

    /// Deletes the records of partition 0 before `offset`.
    pub fn delete_records(&self, topic: &str, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset))
            .unwrap();
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// Kafka's own tool for access lists.
    pub fn acls(&self, arguments: &[&str]) {
        let output = Command::new(self.get("tool"))
            .arg("acls")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.plain());
        config.create().unwrap()
    }
}

/// A real collectd that writes to `topic`, with a socket to put values in.
pub struct Collectd(UnixStream);

impl Collectd {
    pub fn start(kafka: &Kafka, topic: &str) -> Option<Self> {
        let settings = [("KAFKA_BROKER", kafka.plain()), ("KAFKA_TOPIC", topic)];
        // One of an earlier run would write to another topic.
        run("collectd", "down", &[], &[]);
        run("collectd", "up", &[], &settings)
            .then(|| Self(UnixStream::connect(&env("collectd")["socket"]).unwrap()))
    }

    /// Puts in a value of any node, as of now.
    pub fn put(&mut self, node: &str, what: &str, value: f64) {
        let command = format!("PUTVAL \"{node}/{what}\" interval=1 N:{value}\n");
        self.0.write_all(command.as_bytes()).unwrap();
        let mut answer = [0; 128];
        let length = std::io::Read::read(&mut self.0, &mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("0 Success"), "{answer}");
    }

    pub fn stop(self) {
        assert!(run("collectd", "down", &[], &[]));
    }
}
