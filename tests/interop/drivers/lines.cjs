// The line protocol of the drivers written in JavaScript: one JSON object a line, requests in, answers and events out.
// See lines.py for its form.
'use strict'
const readline = require('readline')

// Whatever a library prints must not end up between the lines.
const write = process.stdout.write.bind(process.stdout)
console.log = console.info = console.warn = console.debug = console.error

function pack (value) {
  if (value === undefined) return null
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof ArrayBuffer) value = Buffer.from(value)
  if (ArrayBuffer.isView(value)) {
    return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') }
  }
  if (Array.isArray(value)) return value.map(pack)
  if (value instanceof Map) return pack(Object.fromEntries(value))
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, pack(item)]))
  }
  return value
}

function unpack (value) {
  if (Array.isArray(value)) return value.map(unpack)
  if (value !== null && typeof value === 'object') {
    const keys = Object.keys(value)
    if (keys.length === 1 && keys[0] === '$bytes') return Buffer.from(value.$bytes, 'base64')
    return Object.fromEntries(keys.map(key => [key, unpack(value[key])]))
  }
  return value
}

// A request that the router, or the client library, refused; `fields` are added to the answer.
class Refused extends Error {
  constructor (text, fields = {}) {
    super(text)
    this.fields = fields
  }
}

function line (message) {
  write(JSON.stringify(pack(message)) + '\n')
}

function event (client, kind, fields = {}) {
  line({ client, event: kind, ...fields })
}

function serve (operations) {
  const answer = async ({ id, op, ...request }) => {
    try {
      line({ id, ok: (await operations[op](request)) || {} })
    } catch (error) {
      line({ id, error: String((error && error.message) || error), ...(error && error.fields) })
    }
  }
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity })
  lines.on('line', text => answer(unpack(JSON.parse(text))))
  lines.on('close', () => process.exit(0))
}

process.on('uncaughtException', error => process.stderr.write(`uncaught: ${(error && error.stack) || error}\n`))
process.on('unhandledRejection', error => process.stderr.write(`unhandled: ${(error && error.stack) || error}\n`))

module.exports = { Refused, event, serve, unpack }
