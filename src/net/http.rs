//! HTTP on the one port: WebSocket upgrades are taken here, every other request goes to the pages of the floor above.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::clock::now_ms;
use super::connection::Connection;
use super::entrance::{self, Entrance, Guest};
use super::host::{self, Host, Named};
use super::journal;
use super::origin::{is_own_url, origin_allowed, origin_refusal};
use super::websocket::{Carries, WebSocket};
use crate::gate::{Gate, Origin};
use crate::model::Encoding;
use crate::wire::wamp::Subprotocol;

/// The protocol of a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speech {
    Mqtt,
    Wamp(Encoding),
}

/// Serves one HTTP connection.
pub async fn serve(socket: TcpStream, peer: SocketAddr, guest: Guest, entrance: Arc<Entrance>) -> Result<(), hyper::Error> {
    guest.set_at_pages(true);
    let guest = Arc::new(guest);
    let limits = &entrance.settings.limits;
    let pages = TowerToHyperService::new(entrance.pages.clone());
    let service = service_fn(|mut request: Request<Incoming>| {
        let (pages, guest, entrance) = (pages.clone(), guest.clone(), entrance.clone());
        async move {
            let is_upgrade = is_upgrade(request.headers());
            match admit(&mut request, is_upgrade, &entrance) {
                Err((status, text)) => Ok::<_, Infallible>(refuse(status, &text, peer, &entrance)),
                Ok(asked) if is_upgrade => Ok(upgrade(request, &asked, peer, guest, entrance)),
                Ok(_) => pages.call(request.map(Body::new)).await,
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.open_timeout_ms))
        .max_buf_size(limits.max_http_head_bytes.max(8192))
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    connection.await
}

/// Whether WebSocket is among the protocols that the client would go on with (RFC 9110, 7.8).
fn is_upgrade(headers: &HeaderMap) -> bool {
    elements(headers, &header::UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// The elements of a header that is a list, over all its lines (RFC 9110, 5.6.1).
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

/// The origin of the page that asks. A browser names one, in ASCII: more, or anything else, are one that cannot be allowed.
fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let first = origins.next()?.to_str().unwrap_or_default();
    Some(if origins.next().is_none() { first } else { "" })
}

/// Why a request is not answered as it wishes: the status, and a sentence that says what to do.
type Refusal = (StatusCode, String);

/// Whether the listener answers to the names that the request asks for, which are returned; notes how it was named.
fn admit(request: &mut Request<Incoming>, is_upgrade: bool, entrance: &Entrance) -> Result<Vec<Host>, Refusal> {
    let asked = host::asked(request).map_err(|text| (StatusCode::BAD_REQUEST, text.to_owned()))?;
    let named = match entrance.hosts.first_stranger(&asked) {
        None => Named::Known,
        Some(_) if !is_upgrade && entrance.paths_for_all.contains(&request.uri().path()) => Named::Strange,
        // No browser has sent it, and only of a browser can another site make use.
        Some(_) if is_upgrade && origin(request.headers()).is_some_and(|origin| is_own_url(origin, &asked)) => Named::Strange,
        Some(name) => return Err((StatusCode::FORBIDDEN, host::host_refusal(name))),
    };
    request.extensions_mut().insert(named);
    Ok(asked)
}

/// Answers an upgrade request, and goes on with its socket if it is accepted.
fn upgrade(
    request: Request<Incoming>,
    asked: &[Host],
    peer: SocketAddr,
    guest: Arc<Guest>,
    entrance: Arc<Entrance>,
) -> Response<Body> {
    let (name, speech, accept) = match judge(&request, asked, &entrance) {
        Ok(accepted) => accepted,
        Err((status, text)) => return refuse(status, &text, peer, &entrance),
    };
    let Some(origin) = entrance::origin(peer, "websocket") else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the system has no random numbers; try again", peer, &entrance);
    };
    tokio::spawn(go_on(hyper::upgrade::on(request), speech, origin, guest, entrance));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

type Accepted = (&'static str, Speech, HeaderValue);

/// RFC 6455, 4.2.1, and who may ask at all (LIMITS.md).
fn judge(request: &Request<Incoming>, asked: &[Host], entrance: &Entrance) -> Result<Accepted, Refusal> {
    let headers = request.headers();
    let origin = origin(headers);
    if !origin_allowed(origin, asked, &entrance.allow_origins) {
        return Err((StatusCode::FORBIDDEN, origin_refusal(origin.unwrap_or_default())));
    }
    let is_13 = elements(headers, &header::SEC_WEBSOCKET_VERSION).any(|version| version == "13");
    if request.method() != Method::GET || request.version() < Version::HTTP_11 || !is_13 {
        let text = "a WebSocket begins with GET, HTTP/1.1 and Sec-WebSocket-Version: 13";
        return Err((StatusCode::UPGRADE_REQUIRED, text.to_owned()));
    }
    if !request.body().is_end_stream() {
        return Err((StatusCode::BAD_REQUEST, "a request that opens a WebSocket has no body: leave it out".to_owned()));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().filter(|key| key.len() == 24 && keys.next().is_none());
    let accept = key.map(|key| derive_accept_key(key.as_bytes())).and_then(|accept| HeaderValue::from_str(&accept).ok());
    let accept = accept.ok_or_else(|| {
        (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing or wrong: send 16 random bytes in base64, once".to_owned())
    })?;
    let offers = elements(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let (name, speech) = offers.filter_map(speech).next().ok_or_else(|| {
        let known = "wamp.2.json, wamp.2.msgpack, wamp.2.cbor, mqtt, mqttv3.1";
        (StatusCode::BAD_REQUEST, format!("Sec-WebSocket-Protocol must offer one of: {known}"))
    })?;
    Ok((name, speech, accept))
}

/// The first of the client's subprotocols that is ours decides, on any path.
fn speech(offer: &str) -> Option<(&'static str, Speech)> {
    match offer {
        "mqtt" => Some(("mqtt", Speech::Mqtt)), // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
        "mqttv3.1" => Some(("mqttv3.1", Speech::Mqtt)),
        _ => {
            let subprotocol = Subprotocol::from_name(offer).filter(|subprotocol| !subprotocol.batched)?;
            Some((subprotocol.name(), Speech::Wamp(subprotocol.encoding)))
        }
    }
}

/// The connection behind an accepted upgrade.
async fn go_on(upgrade: OnUpgrade, speech: Speech, origin: Origin, guest: Arc<Guest>, entrance: Arc<Entrance>) {
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    guest.set_at_pages(false);
    let settings = entrance.settings.clone();
    let (gate, carries) = match speech {
        Speech::Mqtt => (Gate::mqtt(settings, origin, now_ms()), Carries::Stream),
        Speech::Wamp(encoding) => {
            let carries = if encoding == Encoding::Json { Carries::Text } else { Carries::Binary };
            (Gate::wamp(settings, origin, encoding, now_ms()), carries)
        }
    };
    let transport = WebSocket::new(parts.io.into_inner(), &parts.read_buf, carries, &entrance.settings.limits);
    let traffic = entrance.doorway.traffic.clone();
    Box::pin(Connection::new(guest.id, transport, gate, entrance.realms.clone(), traffic, entrance.settings.clone()).run()).await;
    drop(guest);
}

/// The answer that says no, and one line in the log, since browsers do not show what the answer says.
fn refuse(status: StatusCode, text: &str, peer: SocketAddr, entrance: &Entrance) -> Response<Body> {
    journal::request(peer, status.as_u16(), text);
    if status == StatusCode::FORBIDDEN {
        entrance.doorway.refused.note(text, now_ms());
    }
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        // RFC 9110, 15.5.22.
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    response
}
