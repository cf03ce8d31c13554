//! The MQTT connections of a small client: how each is made, driven and lost, and the session that outlives them.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corsac::model::names as reserved;
use parking_lot::Mutex;
use rumqttc::NetworkOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, Publish};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Happened, EventLoop, MqttOptions, StateError};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Trouble;
use super::target::{Target, Url};
use super::transport::unreachable;

/// Publications that may wait for their acknowledgement, and packets that may wait to be looked at.
pub const WINDOW: u16 = 256;
/// The longest packet taken, the router's own bound.
const MAX_PACKET_BYTES: u32 = 16 << 20;
/// Long, since a reader that stops reading our output stops us from pinging too.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// The time that the router has to forget a session.
const FORGET: Duration = Duration::from_secs(2);
/// The time for which the router keeps a session that lasts, in seconds.
const LASTING_S: u32 = 3_600;

/// A session that outlives its connections, so that nothing is missed between two of them.
pub struct Lasting {
    client_id: String,
    /// CONNACK of the first connection has come.
    pub has_begun: bool,
    /// QoS 2 messages that have come and whose packet ids the router has not released: they are not to be taken twice.
    unreleased: Arc<Mutex<BTreeSet<u16>>>,
}

impl Lasting {
    /// One that has not begun.
    pub fn new() -> Self {
        Lasting { client_id: client_id(), has_begun: false, unreleased: Arc::default() }
    }

    /// Has the router forget the session. The router would do so by itself, later.
    pub async fn end(&self, target: &Target) {
        let Ok(url) = target.url() else { return };
        let options = options(target, &url, self.client_id.clone());
        let (requests, mut events) = AsyncClient::new(options, 1);
        let forget = async {
            while let Ok(event) = events.poll().await {
                match event {
                    Happened::Incoming(Packet::ConnAck(_)) => requests.try_disconnect().unwrap_or_default(),
                    Happened::Outgoing(rumqttc::Outgoing::Disconnect) => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(FORGET, forget).await.ok();
    }
}

/// The input from a connection: its packets, and last why it has ended.
pub type Packets = mpsc::Receiver<Result<Packet, Trouble>>;

/// Begins a connection, in a session of its own or in one that lasts; its first packet is CONNACK, unless it is refused.
pub fn connect(target: &Target, url: &Url, session: Option<&Lasting>) -> (AsyncClient, Packets) {
    let client_id = session.map_or_else(client_id, |session| session.client_id.clone());
    let mut options = options(target, url, client_id);
    let unreleased = match session {
        Some(session) => {
            options.set_clean_start(!session.has_begun).set_session_expiry_interval(Some(LASTING_S));
            session.unreleased.clone()
        }
        None => Arc::default(),
    };
    let (requests, events) = AsyncClient::new(options, usize::from(WINDOW));
    let (tx, packets) = mpsc::channel(usize::from(WINDOW));
    tokio::spawn(Pump { events, packets: tx, url: url.clone(), unreleased }.run());
    (requests, packets)
}

/// Drives a connection until it ends; whoever wants another one opens it.
struct Pump {
    events: EventLoop,
    packets: mpsc::Sender<Result<Packet, Trouble>>,
    url: Url,
    unreleased: Arc<Mutex<BTreeSet<u16>>>,
}

impl Pump {
    async fn run(mut self) {
        let mut is_open = false;
        self.restore();
        loop {
            let packet = match self.events.poll().await {
                Ok(Happened::Incoming(packet)) => Ok(packet),
                Ok(Happened::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                Ok(Happened::Outgoing(_)) => continue,
                Err(error) => Err(ended(&self.url, is_open, error)),
            };
            is_open = true;
            let is_last = packet.is_err();
            let is_known = packet.as_ref().is_ok_and(|packet| self.is_known(packet));
            if !is_known && (self.packets.send(packet).await.is_err() || is_last) {
                return;
            }
        }
    }

    /// Tells the connection which QoS 2 messages an earlier one has taken: the router may still release them.
    fn restore(&mut self) {
        for id in self.unreleased.lock().iter() {
            let publish = Publish { pkid: *id, ..Publish::new("taken", QoS::ExactlyOnce, Bytes::new(), None) };
            // The state only notes the id: its answer and its report came before.
            self.events.state.handle_incoming_packet(Packet::Publish(publish)).ok();
        }
        self.events.state.events.clear();
    }

    /// True for a QoS 2 message that has been taken already [MQTT-4.3.3-10].
    fn is_known(&self, packet: &Packet) -> bool {
        let mut unreleased = self.unreleased.lock();
        match packet {
            Packet::ConnAck(ack) if !ack.session_present => unreleased.clear(),
            Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => return !unreleased.insert(publish.pkid),
            Packet::PubRel(release) => drop(unreleased.remove(&release.pkid)),
            _ => {}
        }
        false
    }
}

fn client_id() -> String {
    format!("corsac-{}", Uuid::new_v4().simple())
}

/// The options of a connection: without a session that lasts, unless it is changed.
fn options(target: &Target, url: &Url, client_id: String) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, url.host.as_str(), url.port);
    options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(Some(MAX_PACKET_BYTES));
    options.set_outgoing_inflight_upper_limit(WINDOW);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(realm) = &target.realm {
        options.set_user_properties(vec![(reserved::REALM.to_owned(), realm.clone())]);
    }
    if let Some((user, password)) = &url.user {
        options.set_credentials(user, password);
    }
    options
}

/// Why there is no connection, and what to do.
fn ended(url: &Url, was_open: bool, error: ConnectionError) -> Trouble {
    match error {
        ConnectionError::Io(error) if !was_open => Trouble::Lost(unreachable(url, &error)),
        ConnectionError::ConnectionRefused(code) => {
            let why = format!("{url} refused the connection: {code:?}; check user, password and --realm");
            let is_passing = matches!(code, ConnectReturnCode::ServerBusy | ConnectReturnCode::ServerUnavailable);
            if is_passing { Trouble::Lost(why) } else { Trouble::Refused(format!("{code:?}"), why) }
        }
        ConnectionError::Timeout(_) => Trouble::Lost(format!("{url} does not answer; is it the router's address?")),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let reason = refusal(&format!("{reason_code:?}"), reason_string);
            Trouble::Lost(format!("the router ended the connection: {reason}"))
        }
        error if !was_open => Trouble::Lost(format!("{url} does not speak MQTT 5: {error}; check --url")),
        error => Trouble::Lost(lost(&error.to_string())),
    }
}

pub fn lost(why: &str) -> String {
    format!("the connection was lost: {why}; is the router still running?")
}

/// The name of a reason code, and what the router says about it.
pub fn refusal(reason: &str, why: Option<String>) -> String {
    why.map_or_else(|| reason.to_owned(), |why| format!("{reason} ({why})"))
}
