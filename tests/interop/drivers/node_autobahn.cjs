// Drives autobahn-js: JSON, MsgPack and CBOR over WebSocket, JSON over RawSocket.
'use strict'
const { Refused, event, serve } = require('./lines.cjs')
const autobahn = require('autobahn')

const SERIALIZERS = { json: 'JSONSerializer', msgpack: 'MsgpackSerializer', cbor: 'CBORSerializer' }
const clients = new Map()

// In JSON a byte string is text that begins with NUL (WAMP: Basic, Binary Data); autobahn-js leaves that to its user.
function outgoing (client, value) {
  if (!client.json) return value
  if (Buffer.isBuffer(value)) return '\u0000' + value.toString('base64')
  if (Array.isArray(value)) return value.map(item => outgoing(client, item))
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, outgoing(client, item)]))
  }
  return value
}

function refusal (error) {
  if (error instanceof autobahn.Error) {
    return new Refused(`${error.error} ${JSON.stringify(error.args)}`, { uri: error.error, args: error.args, kwargs: error.kwargs })
  }
  return new Refused(String((error && error.message) || error))
}

const settle = promise => new Promise((resolve, reject) => promise.then(resolve, error => reject(refusal(error))))

function transport (url, serializer) {
  if (!url.startsWith('rs://')) return { type: 'websocket', url, serializers: [new autobahn.serializer[SERIALIZERS[serializer]]()] }
  const [host, port] = url.slice('rs://'.length).split(':')
  return { type: 'rawsocket', url, host, port: Number(port) }
}

function connect ({ client: name, url, serializer, realm = 'realm1', reconnect = false }) {
  const client = { name, json: serializer === 'json', subscriptions: {}, registrations: {}, invocations: {}, calls: {} }
  clients.set(name, client)
  client.connection = new autobahn.Connection({
    transports: [transport(url, serializer)],
    realm,
    max_retries: reconnect ? -1 : 0,
    initial_retry_delay: 0.05,
    max_retry_delay: 0.2,
    on_user_error: () => {}, // errors that a procedure answers with are no accidents here
    on_internal_error: error => event(name, 'fault', { text: String(error) })
  })
  return new Promise((resolve, reject) => {
    client.connection.onopen = (session, details) => {
      client.session = session
      event(name, 'joined', { session: session.id })
      resolve({ session: session.id, roles: details.roles })
    }
    client.connection.onclose = (reason, details) => {
      event(name, 'disconnected', { reason, detail: details && details.reason })
      reject(new Refused(`no session: ${reason} ${JSON.stringify(details)}`))
      return !reconnect // true ends the attempts
    }
    client.connection.open()
  })
}

async function subscribe ({ client: name, tag, topic, ...options }) {
  const client = clients.get(name)
  const handler = (args, kwargs, details) => event(name, 'event', {
    tag, topic: details.topic, args, kwargs, publication: details.publication, publisher: details.publisher, retained: details.retained
  })
  client.subscriptions[tag] = await settle(client.session.subscribe(topic, handler, options))
  return { subscription: client.subscriptions[tag].id }
}

const unsubscribe = ({ client: name, tag }) => settle(clients.get(name).subscriptions[tag].unsubscribe())

async function publish ({ client: name, topic, args = null, kwargs = null, ...options }) {
  const client = clients.get(name)
  options = { acknowledge: true, ...options }
  const done = client.session.publish(topic, args && outgoing(client, args), kwargs && outgoing(client, kwargs), options)
  return options.acknowledge ? { publication: (await settle(done)).id } : {}
}

async function register ({ client: name, tag, procedure, ...options }) {
  const client = clients.get(name)
  const endpoint = (args, kwargs, details) => new Promise((resolve, reject) => {
    const number = `${name}.${Object.keys(client.invocations).length + 1}`
    client.invocations[number] = { resolve, reject, details }
    event(name, 'invocation', {
      tag, invocation: number, args, kwargs, progress: !!details.progress, caller: details.caller, procedure: details.procedure
    })
  })
  client.registrations[tag] = await settle(client.session.register(procedure, endpoint, options))
  return { registration: client.registrations[tag].id }
}

const unregister = ({ client: name, tag }) => settle(clients.get(name).registrations[tag].unregister())

// The library hands out a bare value, or a Result where it came with several arguments or with keywords.
function report (name, kind, call, value) {
  if (value instanceof autobahn.Result) return event(name, kind, { call, args: value.args, kwargs: value.kwargs })
  return event(name, kind, { call, args: value === null || value === undefined ? [] : [value], kwargs: {} })
}

async function call ({ client: name, call, procedure, args = null, kwargs = null, timeout_ms: timeout, progress, disclose_me: disclose }) {
  const client = clients.get(name)
  const options = {}
  if (timeout) options.timeout = timeout
  if (disclose) options.disclose_me = true
  if (progress) options.receive_progress = true
  const promise = client.session.call(procedure, args && outgoing(client, args), kwargs && outgoing(client, kwargs), options)
  client.calls[call] = promise
  promise.then(
    value => report(name, 'result', call, value),
    error => event(name, 'error', {
      call, uri: error.error || String(error.message || error), args: error.args || [], kwargs: error.kwargs || {}
    }),
    value => report(name, 'progress', call, value)
  )
}

async function cancel ({ client: name, call, mode }) {
  clients.get(name).calls[call].cancel(mode ? { mode } : {})
}

async function answer ({ client: name, invocation, args = [], kwargs = {} }) {
  const client = clients.get(name)
  client.invocations[invocation].resolve(new autobahn.Result(outgoing(client, args), outgoing(client, kwargs)))
}

async function progress ({ client: name, invocation, args = [], kwargs = {} }) {
  const client = clients.get(name)
  client.invocations[invocation].details.progress(outgoing(client, args), outgoing(client, kwargs))
}

async function fail ({ client: name, invocation, uri, args = [], kwargs = {} }) {
  const client = clients.get(name)
  client.invocations[invocation].reject(new autobahn.Error(uri, outgoing(client, args), outgoing(client, kwargs)))
}

async function close ({ client: name }) {
  const { connection } = clients.get(name)
  clients.delete(name)
  if (!connection.isOpen && !connection.isRetrying) return
  await new Promise(resolve => {
    connection.onclose = () => { resolve(); return true }
    connection.close()
    if (connection.isRetrying) resolve()
  })
}

serve({ connect, subscribe, unsubscribe, publish, register, unregister, call, cancel, yield: answer, progress, fail, close })
