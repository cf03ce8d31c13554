// autobahn-js 17, the last that gives each request a random id of 53 bits. Prints what the calls returned and the events brought.
'use strict'
const autobahn = require('autobahn-17')

const open = () => new Promise((resolve, reject) => {
  const connection = new autobahn.Connection({ url: process.argv[2], realm: 'realm1', max_retries: 0 })
  connection.onopen = resolve
  connection.onclose = reject
  connection.open()
})

async function main () {
  const [peer, other] = [await open(), await open()]
  await peer.register('numbering.autobahn17', ([text]) => text.toUpperCase())
  await peer.register('numbering.autobahn17.again', ([text]) => text.toUpperCase())
  await peer.subscribe('numbering.autobahn17', ([text]) => console.log('event', text))
  console.log('result', await other.call('numbering.autobahn17', ['one']))
  console.log('result', await other.call('numbering.autobahn17.again', ['two']))
  for (const text of ['three', 'four']) other.publish('numbering.autobahn17', [text])
}

main().catch(error => console.log('failed', error))
