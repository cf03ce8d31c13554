// Drives MQTT.js: 3.1, 3.1.1 and 5 over TCP and WebSocket.
'use strict'
const { Refused, event, serve } = require('./lines.cjs')
const mqtt = require('mqtt')

const LEVELS = { 3.1: 3, '3.1.1': 4, 5: 5 }
const clients = new Map()

// Properties as the drivers name them, as MQTT.js wants them.
function outgoing (properties) {
  if (!properties) return undefined
  const result = {}
  if (properties.content_type !== undefined) result.contentType = properties.content_type
  if (properties.utf8 !== undefined) result.payloadFormatIndicator = properties.utf8
  if (properties.response_topic !== undefined) result.responseTopic = properties.response_topic
  if (properties.correlation !== undefined) result.correlationData = properties.correlation
  if (properties.expiry_s !== undefined) result.messageExpiryInterval = properties.expiry_s
  if (properties.will_delay_s !== undefined) result.willDelayInterval = properties.will_delay_s
  if (properties.user !== undefined && properties.user.length > 0) { // MQTT.js sends nothing at all with an empty object
    result.userProperties = {}
    for (const [key, value] of properties.user) {
      const before = result.userProperties[key]
      result.userProperties[key] = before === undefined ? value : [].concat(before, value)
    }
  }
  return result
}

function incoming (properties = {}) {
  const result = { user: [] }
  if (properties.contentType !== undefined) result.content_type = properties.contentType
  if (properties.payloadFormatIndicator !== undefined) result.utf8 = !!properties.payloadFormatIndicator
  if (properties.responseTopic !== undefined) result.response_topic = properties.responseTopic
  if (properties.correlationData !== undefined) result.correlation = properties.correlationData
  if (properties.messageExpiryInterval !== undefined) result.expiry_s = properties.messageExpiryInterval
  for (const [key, values] of Object.entries(properties.userProperties || {})) {
    for (const value of [].concat(values)) result.user.push([key, value])
  }
  return result
}

function options ({ version, client_id: clientId, clean = true, session_expiry_s: expiry, will, reconnect, username, keep_alive_s: keepalive = 60 }) {
  const result = {
    protocolVersion: LEVELS[version],
    protocolId: version === '3.1' ? 'MQIsdp' : 'MQTT',
    clientId,
    username,
    clean,
    keepalive,
    reconnectPeriod: reconnect ? 50 : 0,
    resubscribe: false // the session of the router is what is tested
  }
  if (version === '5' && expiry !== undefined) result.properties = { sessionExpiryInterval: expiry }
  if (will) {
    result.will = { topic: will.topic, payload: will.payload, qos: will.qos || 0, retain: !!will.retain }
    if (version === '5') result.will.properties = outgoing(will.properties)
  }
  return result
}

function connect (request) {
  const name = request.client
  const connection = mqtt.connect(request.url, options(request))
  clients.set(name, connection)
  connection.on('message', (topic, payload, packet) => event(name, 'message', {
    topic, payload, qos: packet.qos, retain: packet.retain, dup: packet.dup, properties: incoming(packet.properties)
  }))
  connection.on('close', () => event(name, 'disconnected'))
  return new Promise((resolve, reject) => {
    connection.on('connect', connack => {
      event(name, 'joined', { session_present: connack.sessionPresent })
      resolve({ session_present: connack.sessionPresent, properties: connack.properties || {} })
    })
    connection.on('error', error => reject(new Refused(`no session: ${error.message}`, { code: error.code })))
    connection.on('end', () => reject(new Refused('no session: ended')))
    if (!request.reconnect) connection.on('close', () => reject(new Refused('no session: closed')))
  })
}

function subscribe ({ client: name, filter, qos = 0, no_local: nl, retain_as_published: rap, retain_handling: rh }) {
  return new Promise((resolve, reject) => {
    clients.get(name).subscribe(filter, { qos, nl, rap, rh }, (error, granted, packet) => {
      const codes = (packet && packet.granted) || (granted || []).map(each => each.qos)
      if (error) reject(new Refused(error.message, { code: error.code || codes[0] || 0x80 }))
      else resolve({ granted: codes })
    })
  })
}

function unsubscribe ({ client: name, filter }) {
  return new Promise((resolve, reject) => {
    clients.get(name).unsubscribe(filter, error => error ? reject(new Refused(error.message)) : resolve({}))
  })
}

function publish ({ client: name, topic, payload, qos = 0, retain = false, properties }) {
  return new Promise((resolve, reject) => {
    clients.get(name).publish(topic, payload, { qos, retain, properties: outgoing(properties) }, (error, packet) => {
      if (error) reject(new Refused(error.message, { code: error.code }))
      else resolve({ code: (packet && packet.reasonCode) || 0 })
    })
  })
}

function close ({ client: name }) {
  const connection = clients.get(name)
  clients.delete(name)
  return new Promise(resolve => connection.end(false, {}, () => resolve({})))
}

serve({ connect, subscribe, unsubscribe, publish, close })
