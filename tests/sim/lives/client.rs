//! An MQTT client as its specification has it, with the state that it keeps of its session.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::house::House;
use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Close, Features, Open, Protocol, RetainHandling, SubscribeEntry,
    SubscribeOptions, Transport, Will,
};
use crate::model::{
    Command, ConnectionId, Delivery, Filter, PacketId, Payload, Principal, Publication, Qos, Reason, RequestId, SessionId, Topic,
};

/// One publication on its way.
struct Outgoing {
    id: PacketId,
    text: String,
    qos: Qos,
    /// PUBREC has come.
    is_received: bool,
}

/// One session, as its client sees it.
#[derive(Default)]
pub struct Life {
    /// The number of records before the first that it may be sent.
    pub from: Option<usize>,
    /// SUBACK has come.
    is_subscribed: bool,
    /// The texts that came with QoS 2, each once.
    pub received: Vec<String>,
}

/// A will that was sent with CONNECT.
pub struct Promise {
    pub text: String,
    /// CONNACK has come.
    pub is_told: bool,
    /// DISCONNECT was sent.
    pub is_void: bool,
    /// The connection is over.
    pub is_due: bool,
}

/// Whether the router must know the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stays {
    /// Unknown.
    Maybe,
    /// Before this time.
    Until(u64),
}

pub struct Client {
    pub name: &'static str,
    protocol: Protocol,
    expiry_s: u32,
    pub connection: Option<ConnectionId>,
    /// CONNACK has come.
    pub is_open: bool,
    has_session: bool,
    stays: Stays,
    /// The session that it has asked for last was there for certain.
    is_certain: bool,
    /// CONNACK has told of a session that is not known here.
    must_be_clean: bool,
    outgoing: VecDeque<Outgoing>,
    incoming: BTreeMap<PacketId, String>,
    pub lives: Vec<Life>,
    /// Connections so far.
    epoch: u32,
    number: u32,
    pub wills: Vec<Promise>,
    /// Texts that the router has taken (QoS 1 and 2).
    pub taken: Vec<String>,
    /// The disk refuses now and then: records may not tell of a session then.
    has_refusals: bool,
    /// PUBLISH and PUBREL that were sent again.
    pub repetitions: u64,
    pub takeovers: u64,
}

fn topic(name: &str) -> Topic {
    Topic::from_mqtt(&format!("t/{name}")).unwrap()
}

impl Client {
    pub fn new(name: &'static str, has_refusals: bool) -> Self {
        Client {
            name,
            protocol: Protocol::Mqtt5,
            expiry_s: 0,
            connection: None,
            is_open: false,
            has_session: false,
            stays: Stays::Maybe,
            is_certain: false,
            must_be_clean: false,
            outgoing: VecDeque::new(),
            incoming: BTreeMap::new(),
            lives: Vec::new(),
            epoch: 0,
            number: 0,
            wills: Vec::new(),
            taken: Vec::new(),
            has_refusals,
            repetitions: 0,
            takeovers: 0,
        }
    }

    /// CONNECT, also where it is connected already: then the router ends the older connection.
    pub fn connect(&mut self, house: &mut House, is_last: bool) {
        self.takeovers += u64::from(self.connection.is_some());
        self.note_end(house.now_ms);
        let is_clean = std::mem::take(&mut self.must_be_clean) || (!is_last && house.random.chance(250));
        self.protocol = if house.random.chance(300) { Protocol::Mqtt311 } else { Protocol::Mqtt5 };
        self.expiry_s = match self.protocol {
            Protocol::Mqtt311 if is_clean => 0,
            Protocol::Mqtt311 => u32::MAX,
            _ => [0, 60, 3_600, 3_600][house.random.below(4)],
        };
        if is_last {
            (self.protocol, self.expiry_s) = (Protocol::Mqtt5, 3_600);
        }
        if is_clean {
            self.forget();
        }
        self.is_certain = matches!(self.stays, Stays::Until(ms) if house.now_ms < ms);
        self.epoch += 1;
        let will = (!is_last && house.random.chance(300)).then(|| self.promise());
        let open = Open {
            session: SessionId(0),
            protocol: self.protocol,
            transport: Transport::default(),
            principal: Arc::new(Principal::anonymous(self.name)),
            client_id: Some(self.name.into()),
            clean_start: is_clean,
            expiry_s: self.expiry_s,
            receive_maximum: 1 + house.random.below(3) as u16,
            will,
            features: Features::default(),
        };
        self.connection = Some(house.connect(open));
    }

    fn promise(&mut self) -> Will {
        let text = format!("2.{}.will.{}.0", self.name, self.epoch);
        let publication = Publication::new(topic(self.name), Payload::Bytes(text.clone().into()), Qos::ExactlyOnce);
        self.wills.push(Promise { text, is_told: false, is_void: false, is_due: false });
        Will { publication: Arc::new(publication), delay_s: 0, expiry_s: None }
    }

    /// Nothing of a session is left here.
    fn forget(&mut self) {
        self.has_session = false;
        self.stays = Stays::Maybe;
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// The connection is over, whoever ended it.
    pub fn note_end(&mut self, now_ms: u64) {
        if self.connection.take().is_none() {
            return;
        }
        if let Some(will) = self.wills.last_mut() {
            will.is_due = true;
        }
        if !self.is_open && !self.is_certain {
            // There may be another session by now, and no CONNACK will tell the two apart.
            self.forget();
        } else if !self.is_open {
            self.stays = Stays::Maybe;
        } else if self.expiry_s == 0 {
            self.forget();
        } else if self.stays != Stays::Maybe {
            self.stays = Stays::Until(now_ms.saturating_add(u64::from(self.expiry_s) * 1_000));
        }
        self.is_open = false;
    }

    /// The socket ends.
    pub fn lose(&mut self, house: &mut House) {
        if let Some(connection) = self.connection {
            self.note_end(house.now_ms);
            house.send(connection, Command::Lost(Reason::ConnectionLost));
        }
    }

    /// DISCONNECT; `is_over`: the session is to end with it.
    pub fn disconnect(&mut self, house: &mut House, is_over: bool) {
        let Some(connection) = self.connection.filter(|_| self.is_open) else { return };
        if let Some(will) = self.wills.last_mut().filter(|will| !will.is_due) {
            will.is_void = true;
        }
        self.note_end(house.now_ms);
        let is_over = is_over && self.protocol == Protocol::Mqtt5;
        if is_over {
            self.forget();
        }
        house.send(connection, Command::Close(Close { expiry_s: is_over.then_some(0), with_will: false }));
    }

    pub fn subscribe(&mut self, house: &mut House) {
        let Some(connection) = self.connection.filter(|_| self.is_open) else { return };
        let options =
            SubscribeOptions { qos: Qos::ExactlyOnce, retain_handling: RetainHandling::Never, ..SubscribeOptions::default() };
        let entries = vec![SubscribeEntry::Topic { filter: Filter::from_mqtt("t/#").unwrap(), share: None, options }];
        house.send(connection, Command::Subscribe { request: RequestId(1), entries });
    }

    pub fn publish(&mut self, house: &mut House) {
        let Some(connection) = self.connection.filter(|_| self.is_open) else { return };
        let qos = Qos::from_bits([2, 2, 2, 1, 0][house.random.below(5)]).unwrap();
        if qos > Qos::AtMostOnce && self.outgoing.len() >= 3 {
            return;
        }
        self.number += 1;
        let (name, life, epoch, number) = (self.name, self.lives.len(), self.epoch, self.number);
        let text = format!("{}.{name}.{life}.{epoch}.{number}", qos.bits());
        // The lowest that is free: ids come back as soon as they may.
        let is_free = |id: &PacketId| self.outgoing.iter().all(|outgoing| outgoing.id != *id);
        let id = (1..).filter_map(PacketId::new).find(is_free).unwrap();
        let acknowledge = acknowledge(qos, id, false);
        house.send(connection, self.packet(&text, qos, acknowledge));
        if qos > Qos::AtMostOnce {
            self.outgoing.push_back(Outgoing { id, text, qos, is_received: false });
        }
    }

    fn packet(&self, text: &str, qos: Qos, acknowledge: Acknowledge) -> Command {
        let publication = Publication::new(topic(self.name), Payload::Bytes(text.to_owned().into()), qos);
        Command::Publish { publication: Arc::new(publication), acknowledge, options: None }
    }

    /// Sends everything that is not over once more, in its order; or one of it.
    pub fn repeat(&mut self, house: &mut House, is_all: bool) {
        let Some(connection) = self.connection.filter(|_| self.is_open && !self.outgoing.is_empty()) else { return };
        // A refusal that crosses a repetition would free the id that the repetition takes.
        if self.has_refusals && !is_all {
            return;
        }
        let one = house.random.below(self.outgoing.len());
        for (index, outgoing) in self.outgoing.iter().enumerate() {
            // Two PUBACKs would free an id twice: on one connection QoS 1 is not sent again.
            if !is_all && (index != one || outgoing.qos == Qos::AtLeastOnce) {
                continue;
            }
            let command = match outgoing.is_received {
                true => Command::Release(outgoing.id),
                false => self.packet(&outgoing.text, outgoing.qos, acknowledge(outgoing.qos, outgoing.id, true)),
            };
            house.send(connection, command);
            self.repetitions += 1;
        }
    }

    /// Looks at the next thing in its inbox; false if there was nothing.
    pub fn look(&mut self, house: &mut House) -> Result<bool, String> {
        let Some(connection) = self.connection else { return Ok(false) };
        let Some((told, records)) = house.told(connection) else { return Ok(false) };
        match told {
            Delivery::Opened { session_present, .. } => self.handle_opened(house, session_present)?,
            Delivery::Refused(_) => self.note_end(house.now_ms),
            Delivery::Close(reason) => {
                if !matches!(reason, Reason::SessionTakenOver | Reason::NoSpace) {
                    return Err(format!("CLOSED: {} {reason}", self.name));
                }
                self.note_end(house.now_ms);
            }
            Delivery::Paused => house.drain(connection),
            Delivery::Acknowledged(id, Ok(_)) => self.finish(id, Qos::AtLeastOnce),
            Delivery::Received(id, Ok(_)) => {
                let outgoing = self.outgoing.iter_mut().find(|outgoing| outgoing.id == id && outgoing.qos == Qos::ExactlyOnce);
                if let Some(outgoing) = outgoing.filter(|outgoing| !outgoing.is_received) {
                    outgoing.is_received = true;
                    self.taken.push(outgoing.text.clone());
                }
                house.send(connection, Command::Release(id));
            }
            Delivery::Completed(id, _) => self.finish(id, Qos::ExactlyOnce),
            // The gate cuts it off: there is no such answer.
            Delivery::Acknowledged(_, Err(_)) | Delivery::Received(_, Err(_)) if self.protocol == Protocol::Mqtt311 => {
                self.lose(house);
            }
            Delivery::Acknowledged(id, Err(_)) | Delivery::Received(id, Err(_)) => {
                self.outgoing.retain(|outgoing| outgoing.id != id);
            }
            Delivery::Subscribed(_, results) if results[0].is_err() => {}
            Delivery::Subscribed(..) => {
                let life = self.lives.last_mut().unwrap();
                life.is_subscribed = true;
                life.from.get_or_insert(records);
            }
            Delivery::Event(event) => self.handle_event(house, connection, &event)?,
            Delivery::Release(id, _) => {
                self.incoming.remove(&id);
                step(house, connection, id, AcknowledgeStep::Completed);
            }
            other => return Err(format!("TOLD: {} {other:?}", self.name)),
        }
        Ok(true)
    }

    fn finish(&mut self, id: PacketId, qos: Qos) {
        let Some(index) = self.outgoing.iter().position(|outgoing| outgoing.id == id && outgoing.qos == qos) else { return };
        if qos == Qos::AtLeastOnce {
            self.taken.push(self.outgoing[index].text.clone());
        } else if !self.outgoing[index].is_received {
            return;
        }
        self.outgoing.remove(index);
    }

    fn handle_opened(&mut self, house: &mut House, is_present: bool) -> Result<(), String> {
        if let Some(will) = self.wills.last_mut().filter(|will| !will.is_due) {
            will.is_told = true;
        }
        if self.is_certain && !is_present && !self.has_refusals {
            return Err(format!("SESSION: that of {} is not there", self.name));
        }
        self.is_open = true;
        if is_present && !self.has_session {
            // [MQTT-3.2.2-4]
            self.must_be_clean = true;
            self.lose(house);
            return Ok(());
        }
        self.stays = if self.expiry_s > 0 { Stays::Until(u64::MAX) } else { Stays::Maybe };
        if is_present {
            self.repeat(house, true);
        } else {
            let stays = self.stays;
            self.forget();
            self.stays = stays;
            self.lives.push(Life::default());
        }
        self.has_session = true;
        if !self.lives.last().unwrap().is_subscribed && house.random.chance(800) {
            self.subscribe(house);
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        house: &mut House,
        connection: ConnectionId,
        event: &crate::model::delivery::Event,
    ) -> Result<(), String> {
        let Payload::Bytes(bytes) = &event.publication.payload else { return Err("EVENT: without bytes".into()) };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let Some(id) = event.packet_id else { return Ok(()) };
        if event.qos == Qos::AtLeastOnce {
            step(house, connection, id, AcknowledgeStep::Acknowledged);
            return Ok(());
        }
        match self.incoming.get(&id) {
            // [MQTT-4.3.3-10]: the same again.
            Some(known) if *known == text && (event.duplicate || self.has_refusals) => {}
            // A step that a full disk did not record is unknown to the next process.
            Some(_) if self.has_refusals => drop(self.incoming.insert(id, text)),
            Some(known) => return Err(format!("ID: {} has {id:?} in use for {known}, not {text}", self.name)),
            None => {
                self.incoming.insert(id, text.clone());
                let life = self.lives.last_mut().unwrap();
                if life.received.is_empty() {
                    // Its SUBACK may have been lost.
                    let place = (event.publication.id.0 as usize).checked_sub(1);
                    life.from = life.from.min(place).or(place);
                }
                life.received.push(text);
            }
        }
        step(house, connection, id, AcknowledgeStep::Received);
        Ok(())
    }
}

fn acknowledge(qos: Qos, id: PacketId, is_again: bool) -> Acknowledge {
    match qos {
        Qos::AtMostOnce => Acknowledge::None,
        Qos::AtLeastOnce => Acknowledge::AtLeastOnce(id),
        Qos::ExactlyOnce if is_again => Acknowledge::ExactlyOnceAgain(id),
        Qos::ExactlyOnce => Acknowledge::ExactlyOnce(id),
    }
}

fn step(house: &mut House, connection: ConnectionId, packet_id: PacketId, step: AcknowledgeStep) {
    house.send(connection, Command::Acknowledge(vec![Acknowledgement { packet_id, step }]));
}
