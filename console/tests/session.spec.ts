import { expect, isSound, LOOKS, nameOf, open, test } from './fixtures'
import { start, type Plant } from './plant'
import { ask } from './trade'

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
