// fox-wamp over its library, whose own programs do not start: node serve.js HTTP_PORT MQTT_PORT
// WAMP (JSON) at ws://127.0.0.1:HTTP_PORT/ws, MQTT at 127.0.0.1:MQTT_PORT, no password.
'use strict'
const http = require('node:http')
const Router = require('fox-wamp')

const HOST = '127.0.0.1'
const [httpPort, mqttPort] = process.argv.slice(2).map(Number)

async function serve () {
  const router = new Router()
  await router.getRealm('realm1') // clients may only join realms that are there
  router.listenMQTT({ host: HOST, port: mqttPort })
  const wamp = router.listenWAMP({ noServer: true }) // without this it listens on every address
  const server = http.createServer((request, response) => response.writeHead(404).end())
  server.on('upgrade', (request, socket, head) =>
    wamp.handleUpgrade(request, socket, head, client => wamp.emit('connection', client, request)))
  server.listen(httpPort, HOST)
}

serve().catch(error => {
  console.error(error)
  process.exit(1)
})
