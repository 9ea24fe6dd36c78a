// What the first page loads, compressed as the server sends it: at most 300 kB.
import { readdirSync, readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const LIMIT = 300_000
const dist = new URL('../dist/', import.meta.url)
const packed = (name) => gzipSync(readFileSync(new URL(name, dist)), { level: 9 }).length
const page = readFileSync(new URL('index.html', dist), 'utf8')
const first = [...page.matchAll(/(?:src|href)="\/([^"]+)"/g)].map(([, name]) => name)
// The start page is loaded with it.
const start = readdirSync(new URL('assets/', dist)).filter((name) => /^Plant-/.test(name)).map((name) => `assets/${name}`)
const names = ['index.html', ...new Set([...first, ...start])]
const total = names.reduce((sum, name) => sum + packed(name), 0)
for (const name of names) console.log(`${String(packed(name)).padStart(8)}  ${name}`)
console.log(`${String(total).padStart(8)}  first load, of ${LIMIT}`)
if (total >= LIMIT) {
  console.error('error: the first load is too large; load what only one page needs with that page')
  process.exit(1)
}
