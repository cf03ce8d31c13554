//! The traffic of a connection, line by line: subscriptions and refusals at debug, packets by name at trace, never a payload.
use super::journal::{Name, Who, say};
use crate::model::command::{Acknowledge, FailedRequest, SubscribeEntry, UnsubscribeEntry};
use crate::model::delivery::Granted;
use crate::model::{Command, Delivery, ErrorUri, Filter, Reason};

/// True if somebody listens; asked before anything is put together.
pub fn is_on() -> bool {
    tracing::enabled!(target: "corsac::net", tracing::Level::DEBUG)
}

fn is_loud() -> bool {
    tracing::enabled!(target: "corsac::net", tracing::Level::TRACE)
}

/// Logs the commands that a client has sent. Ask [`is_on`] first.
pub fn commands(who: Who<'_>, commands: &[Command]) {
    for command in commands {
        match command {
            Command::Subscribe { entries, .. } => entries.iter().for_each(|entry| tell_of_entry(who, entry)),
            Command::Unsubscribe { entries, .. } => entries.iter().for_each(|entry| tell_of_given_up(who, entry)),
            command if is_loud() => {
                if let Some(text) = sent_by_client(command) {
                    say!(trace, who, "from the client: {text}");
                }
            }
            _ => {}
        }
    }
}

fn tell_of_entry(who: Who<'_>, entry: &SubscribeEntry) {
    match entry {
        SubscribeEntry::Topic { filter, share, options } => {
            let share = share.as_deref().map(|share| format!(" in the group {}", Name(share))).unwrap_or_default();
            say!(debug, who, name = %Name(spelled(filter)), "subscribe{share}, QoS {}", options.qos.bits());
        }
        SubscribeEntry::Selected { filter, options, .. } => {
            say!(debug, who, name = %Name(spelled(filter)), "subscribe with a selection, QoS {}", options.qos.bits());
        }
        SubscribeEntry::Procedure { filter, .. } => say!(debug, who, name = %Name(spelled(filter)), "register"),
        SubscribeEntry::Refused(_) => {}
    }
}

fn tell_of_given_up(who: Who<'_>, entry: &UnsubscribeEntry) {
    match entry {
        UnsubscribeEntry::Topic { filter, .. } => say!(debug, who, name = %Name(spelled(filter)), "unsubscribe"),
        UnsubscribeEntry::Procedure { filter, .. } => say!(debug, who, name = %Name(spelled(filter)), "unregister"),
        UnsubscribeEntry::Subscription(id) => say!(debug, who, subscription = id.0, "unsubscribe"),
        UnsubscribeEntry::Registration(id) => say!(debug, who, registration = id.0, "unregister"),
        UnsubscribeEntry::Refused(_) => {}
    }
}

fn spelled(filter: &Filter) -> &str {
    filter.as_mqtt().unwrap_or("(a pattern of WAMP)")
}

fn sent_by_client(command: &Command) -> Option<String> {
    Some(match command {
        Command::Open(_) => "CONNECT or HELLO".to_owned(),
        Command::Publish { publication, acknowledge, .. } => {
            let retain = if publication.retain { ", retain" } else { "" };
            format!("PUBLISH {}{retain}{}", Name(publication.topic.as_mqtt()), answered(acknowledge))
        }
        Command::Acknowledge(steps) => {
            let steps: Vec<String> = steps.iter().map(|step| format!("{:?} {}", step.step, step.packet_id.0)).collect();
            format!("acknowledgements: {}", steps.join(", "))
        }
        Command::Release(id) => format!("PUBREL {}", id.0),
        Command::Call(call) => format!("CALL {}", Name(call.procedure.as_mqtt())),
        Command::Cancel { request, .. } => format!("CANCEL {}", request.0),
        Command::Yield(answer) => format!("YIELD {}", answer.invocation.0),
        Command::Ping => "PINGREQ".to_owned(),
        Command::Close(_) => "DISCONNECT or GOODBYE".to_owned(),
        _ => return None,
    })
}

fn answered(acknowledge: &Acknowledge) -> String {
    match acknowledge {
        Acknowledge::None => String::new(),
        Acknowledge::AtLeastOnce(id) => format!(", QoS 1, id {}", id.0),
        Acknowledge::ExactlyOnce(id) => format!(", QoS 2, id {}", id.0),
        Acknowledge::ExactlyOnceAgain(id) => format!(", QoS 2, DUP, id {}", id.0),
        Acknowledge::Request(request) => format!(", request {}", request.0),
    }
}

/// Logs a delivery to a client. Ask [`is_on`] first.
pub fn delivery(who: Who<'_>, delivery: &Delivery) {
    if let Some((what, reason)) = refusal(delivery) {
        say!(debug, who, "{what} refused: {reason}");
    }
    if is_loud()
        && let Some(text) = told_to_client(delivery)
    {
        say!(trace, who, "to the client: {text}");
    }
}

/// The request that the realm refuses with this delivery, and why.
pub fn refusal(delivery: &Delivery) -> Option<(&'static str, Reason)> {
    match delivery {
        Delivery::Event(_) => None,
        Delivery::Acknowledged(_, Err(reason)) | Delivery::Received(_, Err(reason)) | Delivery::Published(_, Err(reason)) => {
            Some(("publish", *reason))
        }
        Delivery::Subscribed(_, results) => {
            results.iter().find_map(|result| result.err()).map(|reason| ("subscribe or register", reason))
        }
        Delivery::Failed(FailedRequest::Call, _, reason) => Some(("call", *reason)),
        Delivery::Failed(FailedRequest::Publish, _, reason) => Some(("publish", *reason)),
        Delivery::Answer(answer) => match &answer.outcome {
            crate::model::outcome::Outcome::Error(ErrorUri::Reason(reason)) => Some(("call", *reason)),
            _ => None,
        },
        _ => None,
    }
}

fn told_to_client(delivery: &Delivery) -> Option<String> {
    let outcome = |is_taken: bool| if is_taken { "" } else { ", refused" };
    Some(match delivery {
        Delivery::Opened { session_present, .. } => {
            format!("CONNACK or WELCOME{}", if *session_present { ", session present" } else { "" })
        }
        Delivery::Event(event) => {
            let id = event.packet_id.map(|id| format!(", QoS {}, id {}", event.qos.bits(), id.0)).unwrap_or_default();
            let retain = if event.retain { ", retain" } else { "" };
            format!("PUBLISH or EVENT {}{retain}{id}", Name(event.publication.topic.as_mqtt()))
        }
        Delivery::Acknowledged(id, taken) => format!("PUBACK {}{}", id.0, outcome(taken.is_ok())),
        Delivery::Received(id, taken) => format!("PUBREC {}{}", id.0, outcome(taken.is_ok())),
        Delivery::Release(id, _) => format!("PUBREL {}", id.0),
        Delivery::Completed(id, known) => format!("PUBCOMP {}{}", id.0, outcome(known.is_ok())),
        Delivery::Published(request, taken) => format!("PUBLISHED {}{}", request.0, outcome(taken.is_ok())),
        Delivery::Subscribed(request, results) => {
            let results: Vec<String> = results.iter().map(granted).collect();
            format!("SUBACK, SUBSCRIBED or REGISTERED {}: {}", request.0, results.join(", "))
        }
        Delivery::Unsubscribed(request, _) => format!("UNSUBACK, UNSUBSCRIBED or UNREGISTERED {}", request.0),
        Delivery::Pong => "PINGRESP".to_owned(),
        Delivery::Invocation(invocation) => format!("INVOCATION {}", invocation.id.0),
        Delivery::Interrupt { invocation, .. } => format!("INTERRUPT {}", invocation.0),
        Delivery::Answer(answer) => format!("RESULT or ERROR {}", answer.request.0),
        Delivery::Failed(_, request, _) => format!("ERROR {}", request.0),
        _ => return None,
    })
}

fn granted(result: &Result<Granted, Reason>) -> String {
    match result {
        Ok(Granted::Subscription(id, qos)) => format!("subscription {}, QoS {}", id.0, qos.bits()),
        Ok(Granted::Registration(id, _)) => format!("registration {}", id.0),
        Err(reason) => format!("refused, {reason}"),
    }
}
