//! The beginning of a connection: WebSocket and RawSocket handshakes, logging in, subscribing, registering.
use std::net::IpAddr;
use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use corsac::model::{Encoding, MatchPolicy, RequestId};
use corsac::wire::mqtt::{
    Connect, ConnectProperties, Packet, Peer, Qos, Requests, Subscribe, SubscribeProperties, SubscriptionOptions,
    SubscriptionRequest, Version, decode as decode_mqtt,
};
use corsac::wire::wamp::options::{Features, HelloDetails, RegisterOptions, Role, Roles, SubscribeOptions};
use corsac::wire::wamp::rawsocket::{HEAD_BYTES, Handshake, MAX_MESSAGE_BYTES};
use corsac::wire::wamp::{Message, Subprotocol, decode, encode};

use super::inlet::readable;
use super::link::{Link, append_packet, wamp_spelling};
use super::target::{Protocol, Target};

/// Connects from the address `from`, or any, and logs in as `client`.
pub(super) async fn open(target: &Target, client: &str, from: Option<IpAddr>) -> Result<Link, String> {
    let mut link = Link::connect(target, from).await?;
    log_in(&mut link, target, client).await.map_err(|error| format!("{}: {error}", target.url))?;
    Ok(link)
}

/// Everything up to CONNACK or WELCOME.
async fn log_in(link: &mut Link, target: &Target, client: &str) -> Result<(), String> {
    match &target.protocol {
        Protocol::Mqtt(version) => mqtt_connect(link, target, *version, client).await,
        Protocol::WebSocket(encoding, path) => {
            websocket_upgrade(link, &target.authority, path, *encoding).await?;
            wamp_hello(link, target, *encoding).await
        }
        Protocol::RawSocket(encoding) => {
            rawsocket_handshake(link, *encoding).await?;
            wamp_hello(link, target, *encoding).await
        }
    }
}

async fn mqtt_connect(link: &mut Link, target: &Target, version: Version, client: &str) -> Result<(), String> {
    let connect = Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive_s: 0,
        properties: ConnectProperties::default(),
        client_id: client,
        will: None,
        username: target.user.as_deref(),
        password: target.password.as_deref().map(str::as_bytes),
    };
    let mut out = BytesMut::new();
    append_packet(&Packet::Connect(connect), version, &mut out)?;
    link.send(&out).await?;
    let receive_maximum = link
        .wait_for(|packet| match decode_mqtt(packet, version, Peer::Server) {
            Ok(Packet::ConnAck(ack)) if ack.reason.is_error() => Some(Err(format!("login refused: {:?}", ack.reason))),
            Ok(Packet::ConnAck(ack)) => Some(Ok(ack.properties.receive_maximum)),
            Ok(_) => None,
            Err(error) => Some(Err(format!("the router sends a wrong CONNACK: {error}"))),
        })
        .await?;
    link.receive_maximum = receive_maximum.map_or(u16::MAX, NonZeroU16::get);
    Ok(())
}

/// RFC 6455, 4.1. The key is always the same: nothing between here and the router could mix up the answers.
async fn websocket_upgrade(link: &mut Link, authority: &str, path: &str, encoding: Encoding) -> Result<(), String> {
    let subprotocol = Subprotocol { encoding, batched: false }.name();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    link.send(request.as_bytes()).await?;
    loop {
        let answer = link.read_raw().await?;
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head: Vec<u8> = answer.drain(..end + 4).collect();
        let accepted = head.starts_with(b"HTTP/1.1 101") && readable_contains(&head, subprotocol);
        return if accepted { Ok(()) } else { Err(format!("no WebSocket with {subprotocol} here: {}", readable(&head))) };
    }
}

fn readable_contains(head: &[u8], subprotocol: &str) -> bool {
    String::from_utf8_lossy(head).lines().any(|line| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-protocol") && value.trim() == subprotocol)
    })
}

async fn rawsocket_handshake(link: &mut Link, encoding: Encoding) -> Result<(), String> {
    let request = Handshake::new(encoding, MAX_MESSAGE_BYTES);
    link.send(&request.encode()).await?;
    loop {
        let answer = link.read_raw().await?;
        if Handshake::decode_reply(answer, request).map_err(|error| error.to_string())?.is_some() {
            answer.drain(..HEAD_BYTES);
            return Ok(());
        }
    }
}

async fn wamp_hello(link: &mut Link, target: &Target, encoding: Encoding) -> Result<(), String> {
    let role = || Some(Role { features: Some(Box::new(Features::default())) });
    let roles = Roles { subscriber: role(), publisher: role(), caller: role(), callee: role(), ..Roles::default() };
    let details = HelloDetails {
        roles: Some(Box::new(roles)),
        agent: Some(concat!("corsac-bench-", env!("CARGO_PKG_VERSION")).into()),
        authid: target.user.as_deref().map(Into::into),
        ..HelloDetails::default()
    };
    let hello = Message::Hello { realm: target.realm.as_str().into(), details: Box::new(details) };
    say(link, &hello, encoding).await?;
    answer(link, encoding, |message| match message {
        Message::Welcome { .. } => Some(Ok(())),
        Message::Challenge { method, .. } => Some(Err(format!("login by {method} is not supported here"))),
        _ => None,
    })
    .await
}

/// Sends a WAMP message.
async fn say(link: &mut Link, message: &Message<'_>, encoding: Encoding) -> Result<(), String> {
    let mut out = BytesMut::new();
    encode(message, encoding, &mut out);
    link.send_message(&out).await
}

/// Waits for the WAMP message for which `wanted` has an answer.
async fn answer<T>(
    link: &mut Link,
    encoding: Encoding,
    mut wanted: impl FnMut(Message<'_>) -> Option<Result<T, String>>,
) -> Result<T, String> {
    link.wait_for(|message| {
        let message = Bytes::copy_from_slice(message);
        match decode(&message, encoding) {
            Ok(message) => wanted(message),
            Err(error) => Some(Err(format!("the router sends {}: {}", readable(&message), error.detail))),
        }
    })
    .await
}

/// The messages that a subscription asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// The events of one topic from now on.
    Topic,
    /// The events of all topics below one.
    Below,
    /// The retained values of all topics below one, and what follows.
    Retained,
}

/// Subscribes to `topic`, spelled as in MQTT, and waits until that is confirmed.
pub(super) async fn subscribe(link: &mut Link, topic: &str, qos: Qos, wanted: Wanted) -> Result<(), String> {
    ask(link, topic, qos, wanted).await?;
    let Some(encoding) = link.encoding() else { return subscribed(link, topic, qos).await };
    answer(link, encoding, |message| matches!(message, Message::Subscribed { .. }).then_some(Ok(()))).await
}

/// Asks for a subscription without waiting: values may come before the confirmation.
pub(super) async fn ask(link: &mut Link, topic: &str, qos: Qos, wanted: Wanted) -> Result<(), String> {
    let Some(encoding) = link.encoding() else {
        let filter = if wanted == Wanted::Topic { topic.to_string() } else { format!("{topic}/#") };
        return ask_mqtt(link, &filter, qos).await;
    };
    let topic = wamp_spelling(topic);
    let (policy, topic) = if wanted == Wanted::Topic { (None, topic) } else { (Some(MatchPolicy::Prefix), format!("{topic}.")) };
    let get_retained = (wanted == Wanted::Retained).then_some(true);
    let options = SubscribeOptions { policy, get_retained, ..SubscribeOptions::default() };
    let message = Message::Subscribe { request: RequestId(link.next_request()), options, topic: topic.into() };
    say(link, &message, encoding).await
}

async fn ask_mqtt(link: &mut Link, filter: &str, qos: Qos) -> Result<(), String> {
    let Protocol::Mqtt(version) = *link.protocol() else { return Err("no such protocol".into()) };
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let requests = [SubscriptionRequest { filter, options }];
    let requests = Requests::from_slice(&requests);
    let packet_id = u16::try_from(link.next_request()).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN);
    let subscribe = Subscribe { packet_id, properties: SubscribeProperties::default(), requests };
    let mut out = BytesMut::new();
    append_packet(&Packet::Subscribe(subscribe), version, &mut out)?;
    link.send(&out).await
}

/// Waits for SUBACK.
async fn subscribed(link: &mut Link, topic: &str, qos: Qos) -> Result<(), String> {
    let Protocol::Mqtt(version) = *link.protocol() else { return Err("no such protocol".into()) };
    link.wait_for(|packet| match decode_mqtt(packet, version, Peer::Server) {
        Ok(Packet::SubAck(ack)) => Some(match ack.codes.first() {
            Some(granted) if *granted == qos.bits() => Ok(()),
            code => Err(format!("subscription to {topic} refused or lowered, reason code {code:02x?}")),
        }),
        Ok(_) => None,
        Err(error) => Some(Err(format!("the router sends a wrong SUBACK: {error}"))),
    })
    .await
}

/// Registers a WAMP procedure and waits until that is confirmed.
pub(super) async fn register(link: &mut Link, procedure: &str, encoding: Encoding) -> Result<(), String> {
    let options = RegisterOptions::default();
    let message =
        Message::Register { request: RequestId(link.next_request()), options, procedure: wamp_spelling(procedure).into() };
    say(link, &message, encoding).await?;
    answer(link, encoding, |message| matches!(message, Message::Registered { .. }).then_some(Ok(()))).await
}
