import { expect, isSound, LOOKS, nameOf, open, test, WIDE, type Look } from './fixtures'
import { start, type Plant } from './plant'
import { ask } from './trade'

test('language and appearance are chosen and kept', async ({ page, plant }) => {
  await page.setViewportSize({ width: 1280, height: 800 })
  await page.goto(plant.url)
  await expect(page.locator('html')).toHaveAttribute('lang', 'en-US')
  await page.getByRole('radio', { name: '中文' }).check({ force: true })
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('生产线')
  await page.getByRole('radio', { name: '深色' }).check({ force: true })
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark')
  await page.reload()
  await expect(page.locator('html')).toHaveAttribute('lang', 'zh-CN')
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark')
  expect(await page.evaluate(() => Object.keys(localStorage).sort())).toEqual(['tokenworks.language', 'tokenworks.theme'])
})

test('the browser says the language first', async ({ browser, plant }) => {
  const context = await browser.newContext({ locale: 'zh-TW' })
  const page = await context.newPage()
  await page.goto(plant.url)
  await expect(page.locator('html')).toHaveAttribute('lang', 'zh-CN')
  await context.close()
})

test('on a phone the menu is a drawer, by keyboard too', async ({ page, plant }) => {
  await open(page, plant, '', LOOKS[2] as Look)
  const menu = page.getByRole('button', { name: 'Menu' })
  const link = page.getByRole('link', { name: 'Plant' })
  await expect(link).toBeHidden()
  await menu.focus()
  await page.keyboard.press('Enter')
  await expect(link).toBeVisible()
  await isSound(page)
  await page.keyboard.press('Escape')
  await expect(link).toBeHidden()
})

test('a page that is not there leads back', async ({ page, plant }) => {
  await open(page, plant, 'nowhere', WIDE)
  await page.getByRole('link', { name: 'Go to the start page' }).click()
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Plant')
})

for (const look of LOOKS) {
  test(`a place that is not there says so, ${nameOf(look)}`, async ({ page, plant }) => {
    for (const place of ['nowhere', 'plant/nosuch', 'books/nosuch', 'books/usage/nosuch', 'value/nosuch', 'tokenlab/nosuch', 'models/nosuch', 'about/nosuch']) {
      await open(page, plant, place, look)
      await expect(page.getByRole('status').getByText(/There is no such page|没有此页面/), place).toBeVisible()
    }
    await isSound(page)
    await open(page, plant, 'requests/nosuch', look)
    await expect(page.getByRole('status').getByText(/There is no such request|没有此请求/)).toBeVisible()
    await isSound(page)
  })
}

test.describe('sign-in', () => {
  let own: Plant
  let key = ''
  test.beforeAll(async () => {
    own = await start()
  })
  test.afterAll(async () => {
    await own.stop()
  })

  test('the link of the first start claims and signs in', async ({ browser }) => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.goto(own.claim ?? '')
    await page.getByRole('button').click()
    key = (await page.locator('strong code').textContent()) ?? ''
    expect(key).toMatch(/^tw_/)
    await page.getByRole('link', { name: /Open the console/ }).click()
    await expect(page.getByRole('heading', { level: 1 })).toHaveText('Plant')
    await expect(page.getByText('Signed in as')).toBeVisible()
    // Nothing that scripts can reach tells the key or the session.
    const reachable = await page.evaluate(() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage))
    expect(reachable).not.toContain('tw_')
    expect(reachable).not.toMatch(/[0-9a-f]{64}/)
    const cookies = await context.cookies()
    expect(cookies.map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite }))).toEqual([{ httpOnly: true, sameSite: 'Strict' }])
    await page.getByRole('button', { name: 'Sign out' }).click()
    await expect(page.getByText('This machine, no key')).toBeVisible()
    await expect(page.getByText('Not for this key')).toBeVisible()
    await context.close()
  })

  for (const look of LOOKS) {
    test(`a key is typed in, ${nameOf(look)}`, async ({ browser }) => {
      const context = await browser.newContext()
      const page = await context.newPage()
      await open(page, own, 'sign-in', look)
      const submit = page.locator('button[type=submit]')
      await expect(submit).toBeVisible()
      await isSound(page)
      await expect(page.locator('input[type=password]')).toBeFocused()
      await page.locator('input[type=password]').fill('a'.repeat(50_000))
      await submit.click()
      await expect(page.getByRole('alert')).toHaveText(/This is no key|这不是密钥/)
      // The second as a text editor would quote it.
      for (const wrong of ['tw_nobodys', 'tw_“quoted”']) {
        await page.locator('input[type=password]').fill(wrong)
        await submit.click()
        await expect(page.getByRole('alert')).toHaveText(/This key is not known here|服务器不认识此密钥/)
      }
      await isSound(page)
      await page.locator('input[type=password]').fill(key)
      await submit.click()
      await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
      await context.close()
    })
  }

  test('it leads back to the place that was asked for', async ({ browser }) => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await open(page, own, 'plant?span=24h', WIDE)
    await page.getByRole('status').getByRole('link', { name: 'Sign in' }).click()
    await page.locator('input[type=password]').fill(key)
    await page.locator('button[type=submit]').click()
    await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
    await expect(page).toHaveURL(/#\/plant\?span=24h$/)
    await context.close()
  })
  test('everybody begins with a page of their own', async ({ browser }) => {
    const admin = { url: own.url, key }
    await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'acme', name: 'Acme', plan: 'house' })
    await ask(admin, 'PUT', '/admin/v1/projects', { id: 'web', organisation: 'acme', name: 'Web' })
    const begins = { inference: ['playground', 'Playground'], usage: ['books', 'Books'], manage: ['customers', 'Customers'] } as const
    for (const [scope, [path, title]] of Object.entries(begins)) {
      const made = await ask(admin, 'POST', '/admin/v1/keys', { id: `only-${scope}`, name: scope, project: 'web', scopes: [scope] })
      // From the start, and from a place that is not for this key.
      for (const place of ['', 'sign-in?to=settings']) {
        const context = await browser.newContext()
        const page = await context.newPage()
        await open(page, own, place, WIDE)
        await page.locator('input[type=password]').fill(String(made['key']))
        await page.locator('button[type=submit]').click()
        await expect(page.getByRole('heading', { level: 1 })).toContainText(title)
        await expect(page).toHaveURL(new RegExp(`#/${path}$`))
        await page.goto(`${own.url}/#/settings`)
        await expect(page.getByText('Not for this key')).toBeVisible()
        await expect(page.getByRole('status').getByRole('link', { name: 'Sign in with another key' })).toBeVisible()
        await isSound(page)
        await page.getByRole('status').getByRole('link', { name: `Go to ${title}` }).click()
        await expect(page).toHaveURL(new RegExp(`#/${path}$`))
        await page.goto(`${own.url}/#/`)
        await expect(page.getByRole('heading', { level: 1 })).toContainText(title)
        await context.close()
      }
    }
  })

  for (const look of LOOKS) {
    test(`nobody begins with the sign-in, and can go on without a key, ${nameOf(look)}`, async ({ browser }) => {
      const context = await browser.newContext()
      const page = await context.newPage()
      await open(page, own, '', look)
      await expect(page.locator('input[type=password]')).toBeVisible()
      await isSound(page)
      await page.getByRole('button', { name: /Go on without a key|不使用密钥继续/ }).click()
      await expect(page).toHaveURL(/#\/playground$/)
      await expect(page.locator('main form textarea')).toBeVisible()
      await context.close()
    })
  }
})
