/** What all browser tests share: one plant, pages that fail on anything the console said wrong, and the looks of a page. */
import AxeBuilder from '@axe-core/playwright'
import { expect, test as base, type Page } from '@playwright/test'
import { start, type Plant } from './plant'

interface Shared {
  plant: Plant
}
interface Own {
  /** Fails the test on errors in the page, on broken policies, and on requests to anyone but the plant. */
  watched: void
}

export const test = base.extend<Own, Shared>({
  plant: [
    async ({}, use) => {
      const plant = await start()
      await use(plant)
      await plant.stop()
    },
    { scope: 'worker', timeout: 180_000 },
  ],
  watched: [
    async ({ page, plant }, use) => {
      const wrong: string[] = []
      page.on('pageerror', (error) => wrong.push(`error: ${error.message}`))
      page.on('console', (message) => {
        // A policy that is broken is told there too.
        if (/Content.Security.Policy/i.test(message.text())) wrong.push(message.text())
      })
      page.on('request', (request) => {
        if (!request.url().startsWith(`${plant.url}/`)) wrong.push(`a request to ${request.url()}`)
      })
      await use()
      expect(wrong).toEqual([])
    },
    { auto: true },
  ],
})

export { expect }

export interface Look {
  language: 'en' | 'zh'
  theme: 'light' | 'dark'
  width: number
}

/** The look of tests for which none matters. */
export const WIDE: Look = { language: 'en', theme: 'light', width: 1440 }

/** Both languages, both themes, narrow and wide. */
export const LOOKS: readonly Look[] = [
  WIDE,
  { language: 'zh', theme: 'dark', width: 1440 },
  { language: 'en', theme: 'dark', width: 390 },
  { language: 'zh', theme: 'light', width: 390 },
]

/** How numbers are written in each language. */
export const TAGS = { en: 'en-US', zh: 'zh-CN' } as const

export const nameOf = (look: Look): string => `${look.language}-${look.theme}-${look.width}`

/** Opens a page of the console in a look, as a person's browser would ask for it. */
export async function open(page: Page, plant: Plant, place: string, look: Look): Promise<void> {
  await page.setViewportSize({ width: look.width, height: look.width < 600 ? 844 : 900 })
  await page.emulateMedia({ colorScheme: look.theme })
  await page.addInitScript((language) => localStorage.setItem('tokenworks.language', language), look.language)
  await page.goto(`${plant.url}/#/${place}`)
}

/** No moderate or worse finding of axe, and nothing wider than the screen. */
export async function isSound(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).withTags(['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']).analyze()
  const found = violations.filter(({ impact }) => impact !== 'minor')
  expect(found.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 200)).join(' | ')}`)).toEqual([])
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  expect(over, 'the page scrolls sideways').toBeLessThanOrEqual(0)
}
