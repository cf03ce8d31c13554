// npm install autobahn
import autobahn from 'autobahn'

const connection = new autobahn.Connection({ url: 'ws://127.0.0.1:8080/ws', realm: 'realm1' })

connection.onopen = async (session) => {
  await session.subscribe('demo.hello', ([text]) => console.log('heard', text))
  await session.register('demo.greet.autobahnjs', ([name]) => `Hello, ${name}!`)
  session.publish('demo.hello', ['autobahnjs is here'])
  console.log(await session.call('demo.greet.autobahnjs', ['fox']))
}

connection.open()
