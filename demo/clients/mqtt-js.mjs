// npm install mqtt
import mqtt from 'mqtt'

const client = await mqtt.connectAsync('mqtt://127.0.0.1:1883', { protocolVersion: 5 })

client.on('message', (topic, payload, { properties }) => {
  if (topic.startsWith('$callee/')) client.publish(properties.responseTopic, `Hello, ${payload}!`)
  else console.log(topic, payload.toString())
})

await client.subscribeAsync(['demo/hello', '$callee/demo/greet/mqttjs', '$reply/#'])
client.publish('demo/hello', 'mqttjs is here')
client.publish('$call/demo/greet/mqttjs', 'fox', { properties: { responseTopic: '$reply/1' } })
