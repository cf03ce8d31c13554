// npm install wampy ws
import { Wampy } from 'wampy'
import { WebSocket } from 'ws' // not needed in a browser

const wampy = new Wampy('ws://127.0.0.1:8080/ws', { realm: 'realm1', ws: WebSocket })
await wampy.connect()
await wampy.subscribe('demo.hello', ({ argsList }) => console.log('heard', argsList[0]))
await wampy.register('demo.greet.wampy', ({ argsList }) => ({ argsList: [`Hello, ${argsList[0]}!`] }))
wampy.publish('demo.hello', 'wampy is here')
console.log((await wampy.call('demo.greet.wampy', 'fox')).argsList[0])
