/** A plant that has traded, and how figures of a page are held against the answers that it got. */
import { expect, type Page } from '@playwright/test'
import * as format from '../src/format/format'
import { isSound, LOOKS, nameOf, open, TAGS, test as base, WIDE, type Look } from './fixtures'
import { claim, customer, experiment, trade, type Caller, type Customer } from './trade'

interface Traded {
  /** Who administers the plant, with a customer that has bought and told what became of it. */
  admin: Caller & { customer: Customer }
}
interface Own {
  /** The answers that the page got, by what it asked; of several the last. */
  answers: Answers
  /** Opens a place of the console as the administrator. */
  visit: (place: string, look?: Look) => Promise<void>
}

export const test = base.extend<Own, Traded>({
  admin: [
    async ({ plant }, use) => {
      const admin = await claim(plant)
      const made = await customer(admin)
      await trade({ url: plant.url, key: made.key }, 45)
      await experiment({ url: plant.url, key: made.key }, 60)
      await use({ ...admin, customer: made })
    },
    { scope: 'worker', timeout: 180_000 },
  ],
  answers: async ({ page }, use) => use(listen(page)),
  visit: async ({ page, plant, admin }, use) => {
    await signIn(page, admin)
    await use((place, look = WIDE) => open(page, plant, place, look))
  },
})

/** A part of a page. */
export interface Part {
  place: string
  /** A figure or text that is there when it is. */
  ready: string
  /** How many figures it has at least. */
  least: number
}

/** In each look all parts are sound, and their figures are those of the answers. */
export function testParts(title: string, parts: readonly Part[]): void {
  for (const look of LOOKS) {
    test(`${title}, ${nameOf(look)}`, async ({ page, answers, visit }) => {
      for (const { place, ready, least } of parts) {
        await visit(place, look)
        await expect(page.locator(ready).first()).toBeVisible()
        await isSound(page)
        expect(await figuresAreTheirs(page, answers, look), place).toBeGreaterThanOrEqual(least)
      }
    })
  }
}

/** The browser gets a session, as from the sign-in. */
export async function signIn(page: Page, caller: Caller): Promise<void> {
  const headers = { authorization: `Bearer ${caller.key ?? ''}`, 'content-type': 'application/json' }
  const answer = await page.context().request.post(`${caller.url}/v1/session`, { headers, data: {} })
  expect(answer.status()).toBe(200)
}

type Json = Record<string, unknown>
type Answers = Map<string, Promise<Json>>

/** Keeps the answers that a page gets, by what it asked; of several the last. */
export function listen(page: Page): Answers {
  const answers: Answers = new Map()
  page.on('response', (response) => {
    const { pathname, search } = new URL(response.url())
    if (!/json/.test(response.headers()['content-type'] ?? '')) return
    answers.set(pathname + search, response.json().catch(() => ({})) as Promise<Json>)
  })
  return answers
}

/** The value at `data.0.billed`. */
function at(document: Json, path: string): unknown {
  return path.split('.').reduce<unknown>((value, name) => (value as Json | null | undefined)?.[name], document)
}

/** How a figure of a document is to be written, by its name alone. */
function written(document: Json, name: string, tag: string, currency: string, isExact: boolean): string {
  const value = at(document, name)
  if (value === null || value === undefined) return format.NONE
  if (typeof value === 'string') return (isExact ? format.exact : format.money)(value, currency, tag)
  const number = value as number
  if (/permille$|weight$/.test(name)) return format.percent(number / 1000, tag)
  if (/tfp\.(per_million|estimate)$/.test(name)) return format.about(number, currency, tag)
  if (/(^|\.)(uj_per_output_token|energy_uj)$/.test(name)) return format.joules(number / 1e6, tag)
  if (/_ns$/.test(name)) return format.duration(number / 1e9, tag)
  if (/(adoption_rate|coverage|matured|share|utilisation)$/.test(name)) return format.percent(number, tag)
  if (/^(month|one_more_machine|(scale|curve)\.\d+)\.tokens$/.test(name)) return format.compact(number, tag)
  if (name === 'tokens_per_second') return format.decimal(number, tag)
  // A plan's money is made of numbers: nothing of it is in the books.
  if (/(^|\.)(margin|revenue|(fixed|variable)_cost|(full_cost|marginal_cost|price)_per_million|as_planned)$/.test(name)) return format.about(number, currency, tag)
  if (name === 'pool_units_left') return format.decimal(number / 1000, tag)
  if (/(value_per_\w+|accepted_outcomes?|metric|estimate|per_second)$/.test(name)) return format.decimal(number, tag)
  return format.integer(number, tag)
}

/** Every figure on the page is the one of the answer that it names. Returns how many there are. */
export async function figuresAreTheirs(page: Page, answers: Answers, look: Look = WIDE): Promise<number> {
  const shown = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLElement>('[data-figure]')].map((one) => ({
      name: one.dataset['figure'] ?? '',
      text: one.textContent?.trim() ?? '',
      isExact: one.hasAttribute('data-exact'),
      url: one.closest<HTMLElement>('[data-document]')?.dataset['document'] ?? '',
    })),
  )
  for (const { name, text, url, isExact } of shown) {
    const document = await answers.get(url)
    expect(document, `the answer of ${url} for ${name}`).toBeDefined()
    const currency = typeof document?.['currency'] === 'string' ? document['currency'] : 'USD'
    expect(`${name} ${text}`).toBe(`${name} ${written(document ?? {}, name, TAGS[look.language], currency, isExact)}`)
  }
  return shown.length
}
