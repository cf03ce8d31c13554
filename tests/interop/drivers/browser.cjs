// Drives headless Chromium by the DevTools protocol. Each client is one page in a context of its own, as if in a new profile.
// Chromium starts with the first page. It is named by CHROMIUM, or `chromium` on the path.
'use strict'
const { Refused, event, serve } = require('./lines.cjs')
const { spawn } = require('child_process')
const fs = require('fs')
const os = require('os')
const path = require('path')
const WebSocket = require('ws')

const START_MS = 40000
const COMMAND_MS = 20000
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-breakpad', '--remote-debugging-port=0', '--lang=en']
const pages = new Map() // by the name of the client
const sessions = new Map() // by the session of the DevTools protocol
let browser // the promise of the running one

// Rejects with `text` after `ms`, unless the promise is settled before.
function before (ms, text, promise) {
  let timer
  const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Refused(text())), ms) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

class Browser {
  // Runs Chromium with a new profile; its address is the line that it prints on standard error.
  static async start () {
    const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'corsac-chromium-'))
    const child = spawn(process.env.CHROMIUM || 'chromium', [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'],
      { stdio: ['ignore', 'ignore', 'pipe'], detached: true }) // a group of its own, to be ended as one
    process.on('exit', () => {
      if (child.pid) try { process.kill(-child.pid, 'SIGKILL') } catch {}
      fs.rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
    })
    let said = ''
    const address = new Promise((resolve, reject) => {
      child.stderr.setEncoding('utf8').on('data', text => {
        said = (said + text).slice(-4000)
        const found = /DevTools listening on (ws:\S+)/.exec(said)
        if (found) resolve(found[1])
      })
      child.on('error', error => reject(new Refused(`Chromium did not start: ${error.message}`)))
      child.on('exit', code => reject(new Refused(`Chromium ended with ${code}: ${said}`)))
    })
    const url = await before(START_MS, () => `Chromium did not say where it listens: ${said}`, address)
    const made = new Browser()
    made.socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 1 << 28 })
    await before(START_MS, () => 'DevTools did not answer', new Promise((resolve, reject) => {
      made.socket.once('open', resolve)
      made.socket.once('error', reject)
    }))
    made.socket.on('message', text => made.hear(JSON.parse(text)))
    return made
  }

  constructor () {
    this.waiting = new Map()
    this.number = 0
  }

  // One command, to the browser or in the session of a page.
  send (method, params = {}, sessionId = undefined, ms = COMMAND_MS) {
    const id = ++this.number
    const answered = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }))
    this.socket.send(JSON.stringify({ id, method, params, sessionId }))
    return before(ms, () => `${method} was not answered within ${ms} ms`, answered).finally(() => this.waiting.delete(id))
  }

  hear ({ id, result, error, method, params, sessionId }) {
    if (id === undefined) return sessions.get(sessionId)?.hear(method, params)
    if (error) this.waiting.get(id)?.reject(new Refused(error.message))
    else this.waiting.get(id)?.resolve(result)
  }
}

// What a page reports to its console, besides what it only tells.
const LEVELS = ['error', 'warning', 'assert']

class Page {
  constructor (name, browser, ids) {
    Object.assign(this, { name, browser, ...ids })
    this.complaints = []
    this.requests = []
    this.received = [] // texts of WebSocket messages
    this.expecting = new Set() // what is looked at again when one comes
    sessions.set(this.sessionId, this)
  }

  send (method, params, ms) {
    return this.browser.send(method, params, this.sessionId, ms)
  }

  complain (kind, text) {
    this.complaints.push(`${kind}: ${text}`)
  }

  hear (method, params) {
    switch (method) {
      case 'Runtime.consoleAPICalled':
        if (!LEVELS.includes(params.type)) return
        return this.complain(`console.${params.type}`, params.args.map(each => each.value ?? each.description).join(' '))
      case 'Runtime.exceptionThrown': {
        const { text, exception } = params.exceptionDetails
        return this.complain('exception', `${text} ${exception?.description ?? exception?.value ?? ''}`)
      }
      case 'Log.entryAdded': // failed requests and violations of the policy among them
        if (!LEVELS.includes(params.entry.level)) return
        return this.complain(`log ${params.entry.source}`, `${params.entry.text} ${params.entry.url ?? ''}`)
      case 'Audits.issueAdded':
        if (params.issue.code !== 'ContentSecurityPolicyIssue') return
        return this.complain('policy', JSON.stringify(params.issue.details.contentSecurityPolicyIssueDetails))
      case 'Network.requestWillBeSent':
        return this.requests.push(params.request.url)
      case 'Network.webSocketCreated':
        return this.requests.push(params.url)
      case 'Network.webSocketFrameReceived':
        this.received.push(params.response.payloadData)
        return this.expecting.forEach(look => look())
      case 'Inspector.targetCrashed':
        return this.complain('crash', 'the page crashed')
    }
  }

  // The value of an expression in the page, or of its promise.
  async evaluate (expression, ms) {
    const { result, exceptionDetails: wrong } = await this.send('Runtime.evaluate',
      { expression, awaitPromise: true, returnByValue: true }, ms)
    if (wrong) throw new Refused(wrong.exception?.description?.split('\n')[0] ?? wrong.exception?.value ?? wrong.text)
    return result.value
  }

  // Where the middle of an element is, once that is what a click there would reach.
  place (selector) {
    return this.evaluate(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)})
      element.scrollIntoView({ block: 'center', behavior: 'instant' })
      const { left, top, width, height } = element.getBoundingClientRect()
      const middle = { x: left + width / 2, y: top + height / 2 }
      const hit = document.elementFromPoint(middle.x, middle.y)
      if (!element.contains(hit)) throw new Error('a click on ${selector.replace(/['\\]/g, '')} would reach ' + hit?.outerHTML.slice(0, 80))
      if (element.disabled) throw new Error('${selector.replace(/['\\]/g, '')} is disabled')
      return { ...middle, left, width }
    })()`)
  }

  mouse (type, x, y) {
    return this.send('Input.dispatchMouseEvent', { type, x, y, button: 'left', buttons: type === 'mouseReleased' ? 0 : 1, clickCount: 1 })
  }
}

async function open ({ client: name, url, width = 1100, height = 760, scheme = 'light' }) {
  browser ??= Browser.start()
  const running = await browser
  const { browserContextId } = await running.send('Target.createBrowserContext')
  const { targetId } = await running.send('Target.createTarget', { url: 'about:blank', browserContextId, width, height })
  const { sessionId } = await running.send('Target.attachToTarget', { targetId, flatten: true })
  const page = new Page(name, running, { browserContextId, targetId, sessionId })
  pages.set(name, page)
  for (const domain of ['Runtime', 'Log', 'Audits', 'Network', 'Page', 'Inspector']) await page.send(`${domain}.enable`)
  await page.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
  await page.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] })
  await page.send('Emulation.setScrollbarsHidden', { hidden: true })
  await page.send('Emulation.setFocusEmulationEnabled', { enabled: true }) // visible, however many there are
  const { errorText } = await page.send('Page.navigate', { url })
  if (errorText) throw new Refused(`${url}: ${errorText}`)
  await until({ client: name, expression: 'document.readyState === "complete" && location.href !== "about:blank"', ms: COMMAND_MS })
}

const evaluate = async ({ client: name, expression }) => ({ value: await pages.get(name).evaluate(expression) })

// Waits in the page until the expression is true there; its value.
async function until ({ client: name, expression, ms }) {
  const page = pages.get(name)
  const end = Date.now() + ms
  for (;;) {
    const watching = `new Promise((resolve) => {
      const finish = (value) => { observer.disconnect(); clearInterval(timer); clearTimeout(limit); resolve(value) }
      const look = () => {
        let value, wrong
        try { value = (${expression}) } catch (error) { wrong = String(error) }
        if (value) finish({ value })
        return wrong
      }
      const observer = new MutationObserver(look)
      observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true })
      const timer = setInterval(look, 50)
      const limit = setTimeout(() => finish({ wrong: look() ?? 'it is not so' }), ${Math.max(end - Date.now(), 0)})
      look()
    })`
    try {
      const { value, wrong } = await page.evaluate(watching, ms + COMMAND_MS)
      if (wrong) throw new Refused(`waited ${ms} ms until ${expression}: ${wrong}; the page says ${await words(page)}`)
      return { value }
    } catch (error) {
      // The page it was asked on gave way to the next one.
      if (!/navigated|context was destroyed|Cannot find context/.test(error.message) || Date.now() > end) throw error
    }
  }
}

// Waits until so many WebSocket messages that begin with `start` have come.
async function receives ({ client: name, start, times, ms }) {
  const page = pages.get(name)
  const count = () => page.received.filter(text => text.startsWith(start)).length
  let look
  const enough = new Promise(resolve => {
    look = () => { if (count() >= times) resolve() }
    page.expecting.add(look)
    look()
  })
  const missing = () => `waited ${ms} ms for ${times} messages ${start}…; there are ${count()} among the last ${page.received.slice(-5)}`
  await before(ms, missing, enough).finally(() => page.expecting.delete(look))
}

// What can be read on the page, for an error text.
async function words (page) {
  const text = await page.evaluate('document.body.innerText.replace(/\\s+/g, " ")')
  return JSON.stringify(text.slice(0, 700))
}

async function click ({ client: name, selector }) {
  const page = pages.get(name)
  const { x, y } = await page.place(selector)
  await page.mouse('mousePressed', x, y)
  await page.mouse('mouseReleased', x, y)
}

// Presses the mouse on a slider where its thumb stands, and takes it to a share of its width.
async function slide ({ client: name, selector, to }) {
  const page = pages.get(name)
  const { y, left, width } = await page.place(selector)
  const at = await page.evaluate(`(({ min, max, value }) => (value - min) / (max - min))(document.querySelector(${JSON.stringify(selector)}))`)
  const thumb = 16 // pixels, about
  const x = share => left + thumb / 2 + share * (width - thumb)
  await page.mouse('mousePressed', x(at), y)
  for (const part of [0.25, 0.5, 0.75, 1]) await page.mouse('mouseMoved', x(at + (to - at) * part), y)
  await page.mouse('mouseReleased', x(to), y)
}

// Replaces what stands in a field.
async function fill ({ client: name, selector, text }) {
  const page = pages.get(name)
  await click({ client: name, selector })
  await page.evaluate('document.activeElement.select()')
  await page.send('Input.insertText', { text })
}

// The whole view as PNG.
async function picture ({ client: name }) {
  const page = pages.get(name)
  const { data } = await page.send('Page.captureScreenshot', { format: 'png' })
  return { png: Buffer.from(data, 'base64') }
}

const reports = async ({ client: name }) => ({ complaints: pages.get(name).complaints, requests: pages.get(name).requests })

async function close ({ client: name }) {
  const page = pages.get(name)
  if (!page) return
  pages.delete(name)
  sessions.delete(page.sessionId)
  await page.browser.send('Target.disposeBrowserContext', { browserContextId: page.browserContextId }, undefined, 4000)
  event(name, 'closed')
}

// Chromium is in another group than the terminal's: it is told by the handler of `exit`.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))
serve({ open, evaluate, until, receives, click, slide, fill, picture, reports, close })
