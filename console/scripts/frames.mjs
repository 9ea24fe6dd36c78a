// How evenly a table of 10,000 rows scrolls: the times between animation frames while the list of requests is scrolled, in headless
// Chromium over a real server that has answered 10,000 requests. What else runs on the machine is in it; a graphics card is not.
import { chromium } from '@playwright/test'
import { availableParallelism } from 'node:os'
import { createServer } from 'vite'

const ROWS = 10_000
const ROW_PX = 40
const SECONDS = Number(process.argv[2] ?? 10)
/** Below which the 95th percentile is to stay. */
const AIM_MS = 33
/** From the first row to the last one in the time that is measured, at 60 frames a second: no row is seen twice. */
const STEP_PX = Math.ceil((ROWS * ROW_PX) / (SECONDS * 60))
/** A notch of a mouse's wheel. */
const NOTCH_PX = 120

/** In the page: scrolls the table to its end, again and again, until it holds as many rows as it is to have. */
async function load(box, rows) {
  const held = () => Number(box.querySelector('table').getAttribute('aria-rowcount')) - 1
  for (const until = performance.now() + 120_000; held() < rows; ) {
    if (performance.now() > until) throw new Error(`the table holds ${held()} rows, not ${rows}`)
    box.scrollTop = box.scrollHeight
    await new Promise(requestAnimationFrame)
  }
  box.scrollTop = 0
}

/** In the page: the times between frames, with a step at each frame or with what is scrolled from outside. */
function record(box, { seconds, stepPx }) {
  return new Promise((resolve) => {
    const [gaps, begin] = [[], performance.now()]
    let [before, place, way, most, passed] = [undefined, box.scrollTop, 1, 0, 0]
    requestAnimationFrame(function frame(now) {
      if (before !== undefined) gaps.push(now - before)
      before = now
      passed += Math.abs(box.scrollTop - place)
      place = box.scrollTop
      most = Math.max(most, box.querySelectorAll('tbody tr:not([aria-hidden])').length)
      if (now - begin > seconds * 1000) return resolve({ gaps, most, passed })
      if (place + box.clientHeight >= box.scrollHeight - 1) way = -1
      if (place === 0) way = 1
      if (stepPx > 0) box.scrollTop += way * stepPx
      requestAnimationFrame(frame)
    })
  })
}

function tell(how, { gaps, most, passed }, busySeconds) {
  const sorted = gaps.toSorted((a, b) => a - b)
  const at = (share) => (sorted[Math.ceil(sorted.length * share) - 1] ?? NaN).toFixed(1)
  const times = `p50 ${at(0.5)}, p95 ${at(0.95)}, p99 ${at(0.99)}, max ${at(1)} ms`
  const work = `${((busySeconds * 1000) / gaps.length).toFixed(1)} ms of processor time a frame`
  console.log(`${how}: ${gaps.length} frames, ${times}; ${work}; ${most} rows in the DOM at most, ${Math.round(passed / ROW_PX)} passed`)
}

const vite = await createServer({ server: { middlewareMode: true }, appType: 'custom', logLevel: 'error' })
const { start } = await vite.ssrLoadModule('/tests/plant.ts')
const { fill } = await vite.ssrLoadModule('/tests/trade.ts')
const plant = await start()
const browser = await chromium.launch({
  executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
})
try {
  const begun = performance.now()
  await fill(plant, ROWS)
  console.log(`${ROWS} rows: requests that the real server answered, in ${((performance.now() - begun) / 1000).toFixed(0)} s`)
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } })
  await page.goto(`${plant.url}/#/requests`)
  const region = page.getByRole('group', { name: 'Requests', exact: true })
  await region.getByRole('row').nth(1).waitFor()
  await region.evaluate(load, ROWS)
  console.log(`Chromium ${browser.version()}, ${availableParallelism()} processors, 1440 x 900; p95 is to be below ${AIM_MS} ms`)
  const devtools = await page.context().newCDPSession(page)
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' })
  /** Processor time of the page's main thread. */
  const busy = async () => (await devtools.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration').value
  const measure = async (how, seconds, stepPx) => {
    await region.evaluate((box) => (box.scrollTop = 0))
    const before = await busy()
    tell(how, await region.evaluate(record, { seconds, stepPx }), (await busy()) - before)
  }
  await measure('still', SECONDS / 2, 0)
  await measure(`${STEP_PX} px a frame`, SECONDS, STEP_PX)
  await region.hover()
  let isOver = false
  const measured = measure(`wheel, ${NOTCH_PX} px a notch`, SECONDS, 0).finally(() => (isOver = true))
  while (!isOver) await page.mouse.wheel(0, NOTCH_PX)
  await measured
} finally {
  await browser.close()
  await plant.stop()
  await vite.close()
}
