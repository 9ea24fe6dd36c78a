import { expect, isSound, LOOKS, nameOf, open, test, WIDE } from './fixtures'
import { newFolder, start, type Plant } from './plant'
import { ask, claim } from './trade'

test.describe('a suspended customer', () => {
  let own: Plant
  let admin = ''
  let key = ''
  const suspend = (suspended: boolean) => ask({ url: own.url, key: admin }, 'PUT', '/admin/v1/organisations', { id: 'acme', name: 'Acme', plan: 'house', suspended })

  test.beforeAll(async ({ browser }) => {
    own = await start()
    const page = await browser.newPage()
    await page.goto(own.claim ?? '')
    await page.getByRole('button').click()
    admin = (await page.locator('strong code').textContent()) ?? ''
    await page.close()
    await suspend(false)
    const administrator = { url: own.url, key: admin }
    await ask(administrator, 'PUT', '/admin/v1/projects', { id: 'web', organisation: 'acme', name: 'Web' })
    key = String((await ask(administrator, 'POST', '/admin/v1/keys', { id: 'web-1', name: 'web', project: 'web' }))['key'])
  })
  test.afterAll(async () => {
    await own.stop()
  })

  for (const look of LOOKS) {
    test(`is signed out, and told why, ${nameOf(look)}`, async ({ browser }) => {
      await suspend(false)
      const context = await browser.newContext()
      const page = await context.newPage()
      await open(page, own, 'sign-in', look)
      await page.locator('input[type=password]').fill(key)
      await page.locator('button[type=submit]').click()
      // Its answer moves the page on: where to go next is asked after it.
      await expect(page.locator('input[type=password]')).toHaveCount(0)
      await page.goto(`${own.url}/#/playground`)
      await expect(page.locator('main form textarea')).toBeVisible()
      await suspend(true)
      // While the page is used, and when it is opened again.
      await page.locator('main form textarea').fill('Name a river.')
      await page.locator('main form button[type=submit]').click()
      await expect(page.locator('input[type=password]')).toBeVisible()
      await expect(page.getByRole('alert')).toContainText('suspended')
      await page.reload()
      await expect(page.locator('input[type=password]')).toBeVisible()
      await expect(page.getByRole('alert')).toContainText('suspended')
      await isSound(page)
      await page.locator('input[type=password]').fill(key)
      await page.locator('button[type=submit]').click()
      await expect(page.getByRole('alert').last()).toContainText('suspended')
      await context.close()
    })
  }

  test('can sign in with another key', async ({ browser }) => {
    await suspend(false)
    const context = await browser.newContext()
    const page = await context.newPage()
    await context.request.post(`${own.url}/v1/session`, { headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, data: {} })
    await suspend(true)
    await page.goto(own.url)
    await expect(page.getByRole('alert')).toContainText('suspended')
    await page.locator('input[type=password]').fill(admin)
    await page.locator('button[type=submit]').click()
    await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
    await context.close()
  })
})

for (const look of LOOKS) {
  test(`a restarted server ends the session, and the page says so, ${nameOf(look)}`, async ({ browser }) => {
    const folder = newFolder()
    const first = await start(0, folder)
    const { key = '' } = await claim(first)
    const context = await browser.newContext()
    const page = await context.newPage()
    await open(page, first, 'sign-in', look)
    await page.locator('input[type=password]').fill(key)
    await page.locator('button[type=submit]').click()
    await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
    await page.goto(`${first.url}/#/plant?span=24h`)
    await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
    await first.halt()
    const second = await start(Number(new URL(first.url).port), folder)
    try {
      // Until then the page tells, in its own places, that the server is gone.
      await expect(page.getByRole('alert').filter({ hasText: /Your session has ended|您的会话已结束/ })).toBeVisible({ timeout: 40_000 })
      await isSound(page)
      // When it is opened again, too: nobody goes on as somebody else unawares.
      await page.reload()
      await expect(page.getByRole('alert')).toContainText(/Your session has ended|您的会话已结束/)
      await page.locator('input[type=password]').fill('tw_nobodys')
      await page.locator('button[type=submit]').click()
      await expect(page.getByRole('alert').last()).toContainText(/not known here|不认识此密钥/)
      await page.locator('input[type=password]').fill(key)
      await page.locator('button[type=submit]').click()
      await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
      await expect(page).toHaveURL(/#\/plant\?span=24h$/)
    } finally {
      await context.close()
      await second.stop()
    }
  })
}

test('after a session one can go on without a key, where none is needed', async ({ browser }) => {
  const folder = newFolder()
  const first = await start(0, folder)
  const { key = '' } = await claim(first)
  const context = await browser.newContext()
  const page = await context.newPage()
  await context.request.post(`${first.url}/v1/session`, { headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, data: {} })
  await open(page, first, 'playground', WIDE)
  await expect(page.locator('main form textarea')).toBeVisible()
  await first.halt()
  const second = await start(Number(new URL(first.url).port), folder)
  try {
    await page.locator('main form textarea').fill('Name a river.')
    await page.locator('main form button[type=submit]').click()
    await expect(page.getByRole('alert').filter({ hasText: 'Your session has ended' })).toBeVisible()
    await page.getByRole('button', { name: 'Go on without a key' }).click()
    await expect(page.getByText('This machine, no key')).toBeVisible()
    await expect(page).toHaveURL(/#\/playground$/)
  } finally {
    await context.close()
    await second.stop()
  }
})
