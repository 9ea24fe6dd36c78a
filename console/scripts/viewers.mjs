// What watching costs the server: its processor time with 20 viewers less that with none, as a share of one core.
import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { createServer } from 'vite'

const VIEWERS = 20
const SECONDS = Number(process.argv[2] ?? 300)
/** Of `/proc/PID/stat`; 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

const vite = await createServer({ server: { middlewareMode: true }, appType: 'custom', logLevel: 'error' })
const { start } = await vite.ssrLoadModule('/tests/plant.ts')
const plant = await start()

function cpuSeconds() {
  const fields = readFileSync(`/proc/${plant.pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

async function measure() {
  const before = cpuSeconds()
  await wait(SECONDS * 1000)
  return (cpuSeconds() - before) / SECONDS
}

async function watch(signal) {
  const answer = await fetch(`${plant.url}/admin/v1/live`, { signal })
  let bytes = 0
  try {
    for await (const chunk of answer.body) bytes += chunk.length
  } catch {
    // The end of watching.
  }
  return bytes
}

const alone = await measure()
const end = new AbortController()
const viewers = Array.from({ length: VIEWERS }, () => watch(end.signal))
await wait(2000)
const watched = await measure()
end.abort()
const bytes = await Promise.all(viewers)
const share = (part) => `${(part * 100).toFixed(2)} %`
console.log(`no viewer ${share(alone)}, ${VIEWERS} viewers ${share(watched)} of a core over ${SECONDS} s; difference ${share(watched - alone)}`)
console.log(`each viewer got ${Math.round(Math.min(...bytes) / (SECONDS + 2))} bytes a second`)
await plant.stop()
await vite.close()
