//! Nova's lists: filters, pages, and cells that are down.

use reqwest::Method;
use serde_json::json;

use crate::Bench;

#[tokio::test]
async fn below_2_26_a_tag_filter_is_ignored_and_every_server_comes_back() {
    let mut bench = Bench::start().await;
    bench.create("a", json!({"tags": ["mine"]})).await;
    bench.create("b", json!({})).await;
    for (microversion, count) in [("2.1", 2), ("2.25", 2), ("2.26", 1), ("2.93", 1)] {
        bench.microversion = microversion;
        let got = bench
            .nova(Method::GET, "/servers?tags=mine", None)
            .await
            .body;
        assert_eq!(
            got["servers"].as_array().unwrap().len(),
            count,
            "{microversion}"
        );
    }
    for (microversion, status) in [("2.74", 200), ("2.75", 400)] {
        bench.microversion = microversion;
        let got = bench.nova(Method::GET, "/servers?no-such=1", None).await;
        assert_eq!(got.status, status, "{microversion}");
    }
}

#[tokio::test]
async fn a_name_filter_is_a_regular_expression_that_may_match_anywhere() {
    let bench = Bench::start().await;
    for name in ["a2", "a22", "b"] {
        bench.create(name, json!({"metadata": {"k": name}})).await;
    }
    for (query, count) in [
        ("name=a2", 2),
        ("name=%5Ea2%24", 1),
        ("name=.", 3),
        ("metadata=%7B%22k%22%3A%22b%22%7D", 1),
        ("status=build", 3),
        ("status=ACTIVE", 0),
        // Of a user it is not heard.
        ("deleted=true", 3),
    ] {
        let got = bench
            .nova(Method::GET, &format!("/servers?{query}"), None)
            .await
            .body;
        assert_eq!(got["servers"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_that_link_to_the_next() {
    let bench = Bench::start().await;
    for number in 0..5 {
        bench.create(&format!("w{number}"), json!({})).await;
        bench.advance(1);
    }
    let mut names = Vec::new();
    let mut path = "/servers/detail?limit=2".to_owned();
    let mut pages = 0;
    loop {
        let got = bench.nova(Method::GET, &path, None).await.body;
        pages += 1;
        for server in got["servers"].as_array().unwrap() {
            names.push(server["name"].as_str().unwrap().to_owned());
        }
        let Some(link) = got["servers_links"][0]["href"].as_str() else {
            break;
        };
        assert_eq!(got["servers_links"][0]["rel"], json!("next"));
        path = link.split("/compute/v2.1").nth(1).unwrap().to_owned();
    }
    assert_eq!(
        (names, pages),
        (
            ["w4", "w3", "w2", "w1", "w0"].map(str::to_owned).to_vec(),
            3
        )
    );
    let got = bench
        .nova(Method::GET, "/servers?marker=nobody", None)
        .await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn servers_of_a_cell_that_is_down_are_unknown_or_left_out() {
    let mut bench = Bench::start().await;
    let id = bench.create("a", json!({})).await;
    bench.create("b", json!({})).await;
    bench
        .standin
        .world(|world| world.cloud.down_cells.insert(id.clone()));
    let got = bench.nova(Method::GET, "/servers/detail", None).await.body;
    let statuses: Vec<&str> = got["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["status"].as_str().unwrap())
        .collect();
    assert!(
        statuses.contains(&"UNKNOWN") && statuses.len() == 2,
        "{statuses:?}"
    );
    bench.microversion = "2.68";
    let got = bench.nova(Method::GET, "/servers/detail", None).await.body;
    assert_eq!(got["servers"].as_array().unwrap().len(), 1);
    let got = bench
        .nova(Method::GET, &format!("/servers/{id}"), None)
        .await;
    assert_eq!(got.status, 500, "not 404: it is not gone");
}
