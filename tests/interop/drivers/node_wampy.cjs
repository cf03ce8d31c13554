// Drives wampy: JSON, MsgPack and CBOR over WebSocket.
'use strict'
const { Refused, event, serve } = require('./lines.cjs')
const WebSocket = require('ws')
const { Wampy } = require('wampy')
const { JsonSerializer } = require('wampy/JsonSerializer.js')
const { MsgpackSerializer } = require('wampy/MsgpackSerializer.js')
const { CborSerializer } = require('wampy/CborSerializer.js')

const SERIALIZERS = { json: JsonSerializer, msgpack: MsgpackSerializer, cbor: CborSerializer }
const clients = new Map()

// In JSON a byte string is text that begins with NUL (WAMP: Basic, Binary Data); wampy leaves that to its user.
function outgoing (client, value) {
  if (!client.json) return value
  if (Buffer.isBuffer(value)) return '\u0000' + value.toString('base64')
  if (Array.isArray(value)) return value.map(item => outgoing(client, item))
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, outgoing(client, item)]))
  }
  return value
}

function body (client, args, kwargs) {
  if (!args && !kwargs) return null
  const payload = {}
  if (args) payload.argsList = outgoing(client, args)
  if (kwargs) payload.argsDict = outgoing(client, kwargs)
  return payload
}

function refusal (error) {
  const fields = error && error.errorUri ? { uri: error.errorUri, args: error.argsList, kwargs: error.argsDict } : {}
  return new Refused(`${(error && error.message) || error} ${(error && error.errorUri) || ''}`, fields)
}

const settle = promise => promise.catch(error => { throw refusal(error) })

async function connect ({ client: name, url, serializer, realm = 'realm1', reconnect = false }) {
  const client = { name, json: serializer === 'json', subscriptions: {}, invocations: {}, calls: {}, registrations: {} }
  clients.set(name, client)
  client.wampy = new Wampy(url, {
    realm,
    ws: WebSocket,
    serializer: new SERIALIZERS[serializer](),
    autoReconnect: reconnect,
    reconnectInterval: 50,
    maxRetries: 0,
    // autobahn's loose rules, so that a test may use any URI
    uriValidation: 'loose',
    onClose: () => event(name, 'disconnected'),
    onError: error => event(name, 'fault', { text: String((error && error.message) || error) }),
    onReconnectSuccess: details => event(name, 'joined', { session: client.wampy.getSessionId() })
  })
  const welcome = await settle(client.wampy.connect())
  event(name, 'joined', { session: client.wampy.getSessionId() })
  return { session: client.wampy.getSessionId(), roles: welcome.roles }
}

async function subscribe ({ client: name, tag, topic, ...options }) {
  const client = clients.get(name)
  const handler = ({ details, argsList, argsDict }) => event(name, 'event', {
    tag, topic: details.topic || topic, args: argsList || [], kwargs: argsDict || {},
    publisher: details.publisher, retained: !!details.retained, mqtt: details.mqtt
  })
  // Without options none at all: wampy looks for its subscription under another key when it unsubscribes.
  const done = await settle(client.wampy.subscribe(topic, handler, Object.keys(options).length ? options : undefined))
  client.subscriptions[tag] = done.subscriptionKey || done.subscriptionId
  return { subscription: done.subscriptionId }
}

async function unsubscribe ({ client: name, tag }) {
  const client = clients.get(name)
  await settle(client.wampy.unsubscribe(client.subscriptions[tag]))
}

async function publish ({ client: name, topic, args, kwargs, acknowledge, ...options }) {
  const client = clients.get(name) // wampy asks for an acknowledgement every time
  const done = await settle(client.wampy.publish(topic, body(client, args, kwargs), options))
  return { publication: done.publicationId }
}

async function register ({ client: name, tag, procedure, ...options }) {
  const client = clients.get(name)
  client.registrations[tag] = procedure
  const endpoint = invocation => new Promise((resolve, reject) => {
    const number = `${name}.${Object.keys(client.invocations).length + 1}`
    client.invocations[number] = { resolve, reject, progress: invocation.result_handler }
    const details = invocation.details || {}
    event(name, 'invocation', {
      tag, invocation: number, args: invocation.argsList || [], kwargs: invocation.argsDict || {},
      progress: !!details.receive_progress, caller: details.caller, procedure: details.procedure
    })
  })
  const done = await settle(client.wampy.register(procedure, endpoint, options))
  return { registration: done.registrationId }
}

const unregister = ({ client: name, tag }) => settle(clients.get(name).wampy.unregister(clients.get(name).registrations[tag]))

async function call ({ client: name, call, procedure, args, kwargs, timeout_ms: timeout, progress, disclose_me: disclose }) {
  const client = clients.get(name)
  const options = {}
  if (timeout) options.timeout = timeout
  if (disclose) options.disclose_me = true
  if (progress) {
    options.progress_callback = ({ argsList, argsDict }) =>
      event(name, 'progress', { call, args: argsList || [], kwargs: argsDict || {} })
  }
  const promise = client.wampy.call(procedure, body(client, args, kwargs), options)
  client.calls[call] = client.wampy.getOpStatus().reqId
  promise.then(
    ({ argsList, argsDict }) => event(name, 'result', { call, args: argsList || [], kwargs: argsDict || {} }),
    error => event(name, 'error', {
      call, uri: error.errorUri || error.error || error.message, args: error.argsList || [], kwargs: error.argsDict || {}
    })
  )
}

async function cancel ({ client: name, call, mode }) {
  const client = clients.get(name)
  client.wampy.cancel(client.calls[call], mode ? { mode } : {})
}

async function answer ({ client: name, invocation, args, kwargs }) {
  const client = clients.get(name)
  client.invocations[invocation].resolve(body(client, args, kwargs))
}

async function progress ({ client: name, invocation, args, kwargs }) {
  const client = clients.get(name)
  client.invocations[invocation].progress({ ...body(client, args, kwargs), options: { progress: true } })
}

async function fail ({ client: name, invocation, uri, args, kwargs }) {
  const client = clients.get(name)
  client.invocations[invocation].reject({ error: uri, ...body(client, args, kwargs) })
}

async function close ({ client: name }) {
  const { wampy } = clients.get(name)
  clients.delete(name)
  await settle(wampy.disconnect())
}

serve({ connect, subscribe, unsubscribe, publish, register, unregister, call, cancel, yield: answer, progress, fail, close })
