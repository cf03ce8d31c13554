//! The pages of the router itself: status, health, the demo, and a 404 that lists what there is.
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;

use super::config::Listener;
use crate::net::host::Named;

const STATUS_HTML: &str = include_str!("status.html");
const STATUS_CSS: &str = include_str!("status.css");
const STATUS_JS: &str = include_str!("status.js");
const DEMO_HTML: &str = include_str!("../../demo/index.html");
const DEMO_CSS: &str = include_str!("../../demo/demo.css");
const DEMO_JS: &str = include_str!("../../demo/demo.js");
const WAMP_JS: &str = include_str!("../../demo/wamp.js");

/// Headers on every answer: nothing from elsewhere is loaded, nothing inline runs, nobody frames us.
const SECURITY_HEADERS: [(header::HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The content of the status page, as one moment saw it; also the shape of `/status.json`, which adds `version`.
#[derive(Serialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusSnapshot {
    /// Seconds since start.
    pub uptime_s: u64,
    /// Open connections of clients.
    pub connections: u64,
    /// Open sockets: those connections, and the ones over which pages are asked for.
    pub sockets: u64,
    /// Publications that came in since start.
    pub messages_in: u64,
    /// Events that went out since start.
    pub messages_out: u64,
    /// Where the router listens.
    pub listeners: Vec<ListenerStatus>,
    /// The realms there are.
    pub realms: Vec<RealmStatus>,
    /// Hosts and origins that were refused in the last hour, the latest one first.
    pub refused: Vec<RefusedStatus>,
    /// The trouble that keeps the router from all that it promises, with advice; absent while nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One listener on the status page.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct ListenerStatus {
    /// Address and port, as bound.
    pub address: String,
    /// `auto`, `http`, `mqtt` or `rawsocket`.
    pub kind: String,
}

impl From<&Listener> for ListenerStatus {
    fn from(listener: &Listener) -> Self {
        ListenerStatus { address: listener.address.to_string(), kind: listener.kind.name().to_owned() }
    }
}

/// One host or origin that was refused, on the status page.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct RefusedStatus {
    /// The refusal, and the option that would allow it.
    pub why: String,
    /// The number of times.
    pub count: u64,
    /// Seconds since the last time.
    pub last_s: u64,
}

/// One realm on the status page.
#[derive(Serialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct RealmStatus {
    /// The name that clients join it by.
    pub name: String,
    /// Sessions, those whose client is away included.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Registrations of all sessions.
    pub registrations: u64,
    /// Retained messages.
    pub retained: u64,
    /// Records of its history that could not be read at the start: what they changed is missing.
    pub unreadable: u64,
}

/// Where the pages get their figures from; cheap to clone.
#[derive(Clone)]
pub struct Status(Arc<dyn Fn() -> StatusSnapshot + Send + Sync>);

impl Status {
    /// `snapshot` is called once for each request and must not block.
    pub fn new(snapshot: impl Fn() -> StatusSnapshot + Send + Sync + 'static) -> Self {
        Status(Arc::new(snapshot))
    }

    /// The figures of this moment.
    pub fn snapshot(&self) -> StatusSnapshot {
        (self.0)()
    }
}

/// The document around the snapshot in `/status.json`.
#[derive(Serialize)]
struct StatusDocument {
    version: &'static str,
    #[serde(flatten)]
    snapshot: StatusSnapshot,
}

/// The answers to every request that comes in at `listener` and opens no WebSocket. Upgrades at its WebSocket paths are to be
/// taken out before, since a plain request there is told 426.
pub fn router(status: Status, listener: &Listener) -> Router {
    let websocket_paths: Arc<[String]> = Arc::new([listener.wamp_path.clone(), listener.mqtt_path.clone()]);
    pages()
        .fallback(move |request: Request| async move { elsewhere(request.uri().path(), &websocket_paths) })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD here\n") })
        .layer(middleware::map_response(secured))
        .with_state(status)
}

/// One line for each page; every path here stands in [`super::paths::PATHS`] too.
fn pages() -> Router<Status> {
    let html = |text| get(move || async move { page("text/html; charset=utf-8", text) });
    let css = |text| get(move || async move { page("text/css; charset=utf-8", text) });
    let javascript = |text| get(move || async move { page("text/javascript; charset=utf-8", text) });
    Router::new()
        .route("/", html(STATUS_HTML))
        .route("/status.css", css(STATUS_CSS))
        .route("/status.js", javascript(STATUS_JS))
        .route("/demo", html(DEMO_HTML))
        .route("/demo/", html(DEMO_HTML))
        .route("/demo/demo.css", css(DEMO_CSS))
        .route("/demo/demo.js", javascript(DEMO_JS))
        .route("/demo/wamp.js", javascript(WAMP_JS))
        .route("/status.json", get(status_document))
        .route("/healthz", get(health))
}

fn page(content_type: &'static str, body: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, content_type)], body)
}

async fn status_document(State(status): State<Status>) -> Json<StatusDocument> {
    Json(StatusDocument { version: env!("CARGO_PKG_VERSION"), snapshot: status.snapshot() })
}

/// `ok` or `not ok` for all; why not, only for whoever knows a name of the router, which pages of strangers do not.
async fn health(State(status): State<Status>, named: Option<Extension<Named>>) -> (StatusCode, String) {
    let is_known = matches!(named, Some(Extension(Named::Known)));
    match status.snapshot().trouble {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(trouble) if is_known => (StatusCode::SERVICE_UNAVAILABLE, format!("not ok: {trouble}\n")),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ok".to_owned()),
    }
}

fn elsewhere(path: &str, websocket_paths: &[String]) -> Response {
    if websocket_paths.iter().any(|known| known == path) {
        let text = format!("{path} speaks WebSocket: open it with a ws:// URL\n");
        let headers = [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")];
        return (StatusCode::UPGRADE_REQUIRED, headers, text).into_response();
    }
    let mut text = "nothing here; there is:\n".to_owned();
    for path in [
        "/            status page",
        "/status.json the same as JSON",
        "/healthz     ok while the router serves",
        "/demo        a page that talks to an MQTT device",
    ] {
        text.push_str(&format!("  {path}\n"));
    }
    for path in websocket_paths {
        text.push_str(&format!("  {path:<12} WebSocket\n"));
    }
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn secured(mut response: Response) -> Response {
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::paths::{PATHS, PATHS_FOR_ALL};
    use super::*;
    use crate::node::config::ListenerKind;

    fn sample() -> StatusSnapshot {
        StatusSnapshot {
            uptime_s: 61,
            connections: 2,
            sockets: 3,
            messages_in: 3,
            messages_out: 4,
            listeners: vec![(&Listener::new(ListenerKind::Auto, "127.0.0.1:8080".parse().unwrap())).into()],
            realms: vec![RealmStatus { name: "realm1".into(), sessions: 2, ..RealmStatus::default() }],
            refused: vec![RefusedStatus { why: "pages of https://a".into(), count: 5, last_s: 6 }],
            trouble: None,
        }
    }

    /// The whole answer, head in lower case and body, to one request.
    async fn ask(method: &str, path: &str) -> (String, String) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let listener = Listener::new(ListenerKind::Auto, address);
        let serving = tokio::spawn(axum::serve(server, router(Status::new(sample), &listener)).into_future());
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        serving.abort();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn health_is_ok() {
        let (head, body) = ask("GET", "/healthz").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(body, "ok");
    }

    #[tokio::test]
    async fn why_it_is_not_well_is_for_those_who_know_its_name() {
        let ill = Status::new(|| StatusSnapshot { trouble: Some("the disk is full: free 1 GiB".into()), ..sample() });
        for (named, expected) in
            [(Some(Named::Known), "not ok: the disk is full: free 1 GiB\n"), (Some(Named::Strange), "not ok"), (None, "not ok")]
        {
            let (status, body) = health(State(ill.clone()), named.map(Extension)).await;
            assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, expected));
        }
        let well = health(State(Status::new(sample)), Some(Extension(Named::Strange))).await;
        assert_eq!(well, (StatusCode::OK, "ok".to_owned()));
        assert!(PATHS_FOR_ALL.iter().all(|path| PATHS.contains(path)));
    }

    #[tokio::test]
    async fn status_as_json() {
        let (head, body) = ask("GET", "/status.json").await;
        assert!(head.contains("content-type: application/json"), "{head}");
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["uptime_s"], 61);
        assert_eq!(document["messages_out"], 4);
        assert_eq!(document["listeners"][0]["kind"], "auto");
        assert_eq!(document["realms"][0]["name"], "realm1");
        assert_eq!(document["refused"][0]["count"], 5);
        assert_eq!(document.get("trouble"), None);
    }

    #[tokio::test]
    async fn every_path_is_served_with_security_headers() {
        for path in PATHS.iter().chain(&["/nothing", "/ws"]) {
            let (head, _) = ask("GET", path).await;
            assert_eq!(head.starts_with("http/1.1 200"), PATHS.contains(path), "{path} {head}");
            for (name, value) in SECURITY_HEADERS {
                assert!(head.contains(&format!("{name}: {}", value.to_lowercase())), "{path} {name} {head}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_there_says_what_is() {
        let (head, body) = ask("GET", "/nothing").await;
        assert!(head.starts_with("http/1.1 404") && head.contains("content-type: text/plain"), "{head}");
        for path in ["/status.json", "/healthz", "/demo", "/ws", "/mqtt"] {
            assert!(body.contains(path), "{body}");
        }
        let (head, body) = ask("GET", "/mqtt").await;
        assert!(head.starts_with("http/1.1 426") && head.contains("upgrade: websocket"), "{head}");
        assert!(body.contains("ws://"), "{body}");
        let (head, _) = ask("POST", "/healthz").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get,head"), "{head}");
    }

    #[test]
    fn the_pages_load_nothing_from_elsewhere() {
        for text in [STATUS_HTML, STATUS_CSS, STATUS_JS, DEMO_HTML, DEMO_CSS, DEMO_JS, WAMP_JS] {
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("\"//"));
        }
        // The policy forbids inline scripts and styles.
        for text in [STATUS_HTML, DEMO_HTML] {
            assert!(!text.contains("<style") && !text.contains("style=") && !text.contains("onclick"));
        }
    }
}
