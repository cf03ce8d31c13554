//! The demo as a test: both protocols in one program, and the device with a stand-in for the page.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]
#[path = "../demo/both.rs"]
#[allow(missing_docs)]
mod both;
mod common;
#[path = "../demo/device.rs"]
#[allow(missing_docs)]
mod device;

use std::time::Duration;

use both::Wamp;
use common::{PATIENCE, Router};
use serde_json::{Value, json};

/// Runs `test` on a runtime of its own, not for ever.
fn within_patience<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it ends") })
}

#[test]
fn both_protocols_share_a_topic_and_procedures() {
    let router = Router::start();
    let lines = within_patience(both::exchange(&router.http, &router.mqtt)).expect("no failure");
    assert_eq!(
        lines,
        [
            "WAMP heard [{\"celsius\":21.5}]",
            "MQTT heard {\"on\":true}",
            "WAMP called MQTT's double(21): 42",
            "MQTT called WAMP's upper(\"corsac\"): CORSAC",
        ]
    );
}

#[test]
fn the_page_and_the_device_see_and_call_each_other() {
    let router = Router::start();
    let (host, port) = router.mqtt.rsplit_once(':').expect("HOST:PORT");
    let (host, port) = (host.to_owned(), port.parse().expect("a port"));
    within_patience(async {
        let mut page = Wamp::join(&router.http, "realm1").await.unwrap();
        page.request(64, json!({ "invoke": "roundrobin" }), "demo.page.greet", None).await.unwrap();
        page.request(32, json!({}), "demo.den.temperature", None).await.unwrap();
        tokio::spawn(async move { device::serve(None, &host, port, Duration::from_millis(10)).await });

        // Live readings, and after some of them a call of the page's procedure.
        let reading = page.next(36).await.unwrap();
        assert!(reading[4][0]["celsius"].is_number(), "{reading}");
        let invocation = page.next(68).await.unwrap();
        assert_eq!(invocation[4], json!(["den"]));
        page.send(json!([70, invocation[1], {}, ["Good evening"]])).await.unwrap();

        // Another page that comes later: what is retained is there, and the device's procedure changes it.
        let mut late = Wamp::join(&router.http, "realm1").await.unwrap();
        late.request(32, json!({ "get_retained": true }), "demo.lamp.state", None).await.unwrap();
        let kept = late.next(36).await.unwrap();
        assert_eq!((&kept[3]["retained"], &kept[4]), (&json!(true), &json!([{ "on": true, "brightness": 60 }])));
        let request = late.next_request();
        late.send(json!([48, request, {}, "demo.lamp.set", [{ "brightness": 90 }]])).await.unwrap();
        let wanted = json!([{ "on": true, "brightness": 90 }]);
        let (result, event) = (late.next(50).await.unwrap(), late.next(36).await.unwrap());
        assert_eq!((&result[1], &result[3], &event[4]), (&json!(request), &wanted, &wanted));
        let request = late.next_request();
        late.send(json!([48, request, {}, "demo.lamp.set", [{ "brightness": 101 }]])).await.unwrap();
        let refused = late.next(50).await.unwrap_err().to_string();
        assert!(refused.contains("demo.error.bad_lamp") && refused.contains("0 to 100"), "{refused}");

        // One topic that both publish to and hear.
        late.request(32, json!({}), "demo.chat", None).await.unwrap();
        late.request(16, json!({ "acknowledge": true }), "demo.chat", Some(json!([{ "from": "page", "text": "?" }])))
            .await
            .unwrap();
        let answer = late.next(36).await.unwrap();
        assert_eq!(answer[4][0]["from"], "device");
        assert!(answer[4][0]["text"].as_str().is_some_and(|text| text.contains("90 %")), "{answer}");
    });
}

#[test]
fn a_device_that_vanishes_is_known_to_be_away() {
    let router = Router::start();
    let (host, port) = router.mqtt.rsplit_once(':').expect("HOST:PORT");
    let (host, port) = (host.to_owned(), port.parse().expect("a port"));
    within_patience(async {
        let mut page = Wamp::join(&router.http, "realm1").await.unwrap();
        page.request(32, json!({}), "demo.device.online", None).await.unwrap();
        let device = tokio::spawn(async move { device::serve(None, &host, port, Duration::from_secs(1)).await });
        assert_eq!(page.next(36).await.unwrap()[4], json!([true]));
        device.abort(); // its socket closes without a goodbye
        let event: Value = page.next(36).await.unwrap();
        assert_eq!(event[4], json!([false]));
    });
}
