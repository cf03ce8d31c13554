// npm install autobahn@22
import autobahn from 'autobahn'

const connection = new autobahn.Connection({ url: 'ws://127.0.0.1:8080/ws', realm: 'realm1' })

connection.onopen = async (session) => {
  // The same key, so it is stored and delivered once, however often it is sent.
  const options = { acknowledge: true, exclude_me: false, dedup: `order ${session.id}` }
  const first = await session.publish('demo.more.js', ['order'], {}, options)
  const again = await session.publish('demo.more.js', ['order'], {}, options)
  console.log('dedup', first.id === again.id)

  // First what came behind this id, then what comes: no gap, nothing twice.
  await session.subscribe('demo.more.js', ([text]) => console.log('history', text), { after: first.id - 1 })

  // Only if the topic has no value yet, else it waits in line; the value goes when this session ends.
  const lock = { acknowledge: true, retain: true, when: null, watch: true, will: null }
  await session.publish('demo.leader', [session.id], {}, lock)
  console.log('leader', session.id)
}

connection.open()
