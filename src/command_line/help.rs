//! The text of `--help` behind the options of each command: examples and exit codes. Paragraphs are one line each; clap wraps them.

/// Of the router itself.
pub const ROUTER: &str = "\
Flags override the environment, which overrides the file given by --config, which overrides the defaults.
Environment: CORSAC_CONFIG, CORSAC_HTTP, CORSAC_MQTT, and CORSAC_ with every key of the file in capitals, as CORSAC_LOG, \
CORSAC_DATA_DIR, CORSAC_LIMITS_MAX_CONNECTIONS; lists are separated by commas.";

/// Of `corsac pub`.
pub const PUB: &str = "\
Names are topics in either spelling: with a / MQTT's (demo/hello), else WAMP's (demo.hello). Every URL sends the same bytes: MQTT \
clients get one text bare, other values as JSON, several as a JSON list.

  corsac pub demo/hello world
  corsac pub --url mqtt://127.0.0.1:1883 demo/temperature 21.5 --retain
  corsac pub demo/photo --file photo.jpg
  vmstat 1 | corsac pub demo/vmstat

Exit code: 0 every message was taken (QoS 0: sent), 1 it was not, 2 the command line is wrong.";

/// Of `corsac sub`.
pub const SUB: &str = "\
A line is the topic and the payload: one text as it is, binary as hex:ff00, anything else as JSON; several arguments are a JSON list, \
keyword arguments an object of args and kwargs. A text that could be taken for one of these is quoted as JSON. If the connection is \
lost, sub connects again and goes on behind the last event, as far as events are stored; over MQTT an event may come twice.

  corsac sub 'demo/#'
  corsac sub --match prefix demo.temp
  corsac sub --json 'demo/+/state' | jq .args[0]
  corsac sub --raw --count 1 demo/photo > photo.jpg

Exit code: 0 stopped by --count, --timeout-ms, a signal or its reader, 1 the connection failed or --count was not reached in \
--timeout-ms, 2 the command line is wrong.";

/// Of `corsac call`.
pub const CALL: &str = "\
The result is a line of JSON: the value, or a list or an object of several, or null for none. An error goes to standard error: its URI \
and what the callee says.

  corsac call demo.add 2 3
  corsac call --timeout-ms 500 --kwargs '{\"unit\":\"C\"}' demo.temperature

Exit code: 0 there is a result, 1 an error came instead or the connection failed, 2 the command line is wrong.";

/// Of `corsac register`.
pub const REGISTER: &str = "\
The command gets the arguments on standard input, a JSON list, or {\"args\":[...],\"kwargs\":{...}} if there are keyword arguments. What \
it prints is the result: JSON if it parses, else text, else binary. Any exit status but 0 is the error corsac.error.command_failed with \
what it said on standard error. A call that is canceled kills it. If the connection is lost, register connects and registers again.

  corsac register demo.add -- jq add
  corsac register demo.date --concurrency 1 -- date
  corsac register demo.echo --echo

Exit code: 0 stopped by a signal, 1 the procedure cannot be served or the connection failed, 2 the command line is wrong, 126 and 127 \
the command cannot run or does not exist.";

/// Of `corsac history`.
pub const HISTORY: &str = "\
A line is the event's id, its time, its topic and its payload, as `corsac sub` prints it. The id of the last line is where --after goes \
on.

  corsac history 'demo/#' --last 10
  corsac history demo.hello --after 4711 --follow
  corsac history 'demo/#' --since 1h
  corsac history --json 'demo/+/state' | jq .args[0]

Exit code: 0 everything was printed, or a signal or its reader stopped it, 1 there is no such history or the connection failed, 2 the \
command line is wrong.";

/// Of `corsac queue`.
pub const QUEUE: &str = "\
Whoever takes an item says that it is done with (ack), or it comes again when its time is over. A line that `take` prints is the token \
and the item; with --ack it is the item alone.

  corsac queue put jobs '{\"n\":1}' '{\"n\":2}'
  ls *.jpg | corsac queue put jobs
  corsac queue take jobs --ack --wait-ms 60000 | xargs resize
  corsac queue take jobs --max 10 --json | jq -r .token | xargs corsac queue ack
  corsac queue declare jobs --visibility-ms 60000 --max-deliveries 5 --dead-letter jobs.dead
  corsac queue list

Exit code: 0 done, 1 it was refused, or there was no item to take, or no such queue, 2 the command line is wrong.";

/// Of `corsac lock`.
pub const LOCK: &str = "\
The command runs while the lock is held, with the lock's name in CORSAC_LOCK_NAME and the fencing token in CORSAC_LOCK_TOKEN: a number \
that is larger than that of every holder before (as long as the router keeps a history). Have the resource refuse smaller ones: a \
holder that is stopped for a while, or whose `corsac lock` alone is killed, does not know yet that it has lost the lock. The command \
is killed as soon as the lock is lost. A lock is no topic: what happens to locks are events below $lock.

  corsac lock demo/printer -- lp report.pdf
  corsac lock demo/nightly --wait-ms 0 -- ./backup   # never twice at a time
  corsac lock demo/one -- corsac                     # one router at a time
  corsac call corsac.lock.inspect demo/printer
  corsac sub '$lock/#'

Exit code: that of the command (128 and the signal that ended it), 1 the lock was not granted or is lost, or the connection failed, 2 \
the command line is wrong, 126 and 127 the command cannot run or does not exist.";

/// Of `corsac demo`.
pub const DEMO: &str = "\
Open http://127.0.0.1:8080/demo in a browser to see the device: the page speaks WAMP, the device MQTT, and they share topics and \
procedures.

  corsac demo
  corsac demo --url mqtt://192.168.1.20:1883

Exit code: 0 stopped by a signal, 2 the command line is wrong.";
