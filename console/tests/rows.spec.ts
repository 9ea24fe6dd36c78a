/** A table of more rows than a page of the API holds: few of them exist at a time, and all can be reached. */
import type { Locator, Page } from '@playwright/test'
import { expect, isSound, open, test as base, WIDE } from './fixtures'
import { start, type Plant } from './plant'
import { ask, fill } from './trade'

const ROWS = 1_500
/** Rows that may exist at a time. */
const MOST = 100

interface Ends {
  /** The ids of the newest request and of the oldest one. */
  ends: { first: string; last: string }
}

const test = base.extend<object, { plant: Plant } & Ends>({
  plant: [
    async ({}, use) => {
      const plant = await start()
      await fill(plant, ROWS)
      await use(plant)
      await plant.stop()
    },
    { scope: 'worker', timeout: 600_000 },
  ],
  ends: [
    async ({ plant }, use) => {
      const one = async (query: string): Promise<string> => {
        const { data } = (await ask(plant, 'GET', `/admin/v1/requests?limit=1${query}`)) as { data: { id: string }[] }
        return data[0]?.id ?? ''
      }
      const { newest } = await ask(plant, 'GET', '/admin/v1/requests?limit=1')
      await use({ first: await one(''), last: await one(`&before=${Number(newest) - ROWS + 2}`) })
    },
    { scope: 'worker' },
  ],
})

/** The table, from now on with a count of the most rows that existed at any time. */
async function table(page: Page, plant: Plant): Promise<{ region: Locator; most: () => Promise<number> }> {
  await open(page, plant, 'requests', WIDE)
  const region = page.getByRole('group', { name: 'Requests', exact: true })
  await expect(region.getByRole('row').nth(1)).toBeVisible()
  await region.evaluate((box) => {
    // Its last rows are below the fold of the page.
    box.scrollIntoView({ block: 'end' })
    const count = (): void => {
      const before = Number(box.dataset['most'] ?? 0)
      box.dataset['most'] = String(Math.max(before, box.querySelectorAll('tr').length))
    }
    new MutationObserver(count).observe(box, { childList: true, subtree: true })
    count()
  })
  return { region, most: async () => Number(await region.getAttribute('data-most')) }
}

/** Does something again and again until all rows are held, and once more to see the last one. */
async function reach(region: Locator, id: string, act: () => Promise<unknown>): Promise<void> {
  const held = region.getByRole('table')
  const more = async (): Promise<string | null> => {
    await act()
    return held.getAttribute('aria-rowcount')
  }
  await expect.poll(more, { intervals: [100], timeout: 90_000 }).toBe(String(ROWS + 1))
  await act()
  await expect(region.locator(`a[href="#/requests/${id}"]`)).toBeInViewport()
}

test('the last of many rows is reached by scrolling', async ({ page, plant, ends }) => {
  const { region, most } = await table(page, plant)
  await reach(region, ends.last, () => region.evaluate((box) => (box.scrollTop = box.scrollHeight)))
  const place = await region.evaluate((box) => (box.scrollTop = box.scrollHeight / 2))
  const middle = region.locator(`tr[aria-rowindex="${Math.ceil(place / 40) + 2}"]`)
  await expect(middle).toBeInViewport()
  await isSound(page)
  expect(await most()).toBeGreaterThan(16)
  expect(await most()).toBeLessThan(MOST)
})

test('the last of many rows is reached by keyboard', async ({ page, plant, ends }) => {
  const { region, most } = await table(page, plant)
  const [first, last] = [ends.first, ends.last].map((id) => region.locator(`a[href="#/requests/${id}"]`)) as [Locator, Locator]
  await region.focus()
  await page.keyboard.press('Tab')
  await expect(first).toBeFocused()
  await reach(region, ends.last, () => page.keyboard.press('End'))
  // The row that had the focus exists no more; the table has it.
  await expect(region).toBeFocused()
  await page.keyboard.press('Home')
  await expect(first).toBeInViewport()
  await page.keyboard.press('End')
  await expect(last).toBeInViewport()
  expect(await most()).toBeLessThan(MOST)
})
