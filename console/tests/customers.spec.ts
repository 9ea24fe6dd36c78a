import { expect, isSound, LOOKS, nameOf, open, WIDE } from './fixtures'
import { figuresAreTheirs, signIn, test } from './traded'
import { ask } from './trade'

for (const look of LOOKS) {
  test(`customers and their keys, ${nameOf(look)}`, async ({ page, answers, visit }) => {
    await visit('customers', look)
    await page.getByRole('link', { name: 'Acme', exact: true }).click()
    await expect(page.locator('[data-figure="balance"]')).toBeVisible()
    await isSound(page)
    // The standing, and what is used of the key's budget.
    expect(await figuresAreTheirs(page, answers, look)).toBeGreaterThanOrEqual(5)
  })
}

test('a key is made, rotated, bounded and revoked', async ({ page, plant, admin, visit }) => {
  const reads = async (key: string): Promise<number> => (await fetch(`${plant.url}/v1/usage`, { headers: { authorization: `Bearer ${key}` } })).status
  await visit('customers/acme')
  await page.getByRole('button', { name: 'New key' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('button', { name: 'Make the key' }).click()
  await expect(dialog.getByRole('alert')).toHaveText('It needs an id, e.g. web-1.')
  await dialog.getByLabel('Id').fill('Web 1')
  await dialog.getByRole('button', { name: 'Make the key' }).click()
  await expect(dialog.getByRole('alert')).toContainText('small letters')
  await dialog.getByLabel('Id').fill('web-1')
  await dialog.getByRole('button', { name: 'Make the key' }).click()
  await expect(dialog.getByRole('alert')).toContainText('there is a key `web-1` already')
  await isSound(page)
  await dialog.getByLabel('Id').fill('web-2')
  await dialog.getByRole('button', { name: 'Make the key' }).click()
  await expect(dialog.locator('code')).toHaveText(/^tw_/)
  const first = (await dialog.locator('code').textContent()) ?? ''
  await isSound(page)
  await dialog.getByRole('button', { name: 'I have it' }).click()
  await expect(page.getByText(first)).toHaveCount(0)
  expect(await reads(first)).toBe(200)
  // What is not chosen is the API's default.
  expect(await ask(admin, 'GET', '/admin/v1/keys/web-2')).toMatchObject({ scopes: ['inference', 'usage'], name: 'web-2', project: 'web' })

  await page.getByRole('button', { name: 'Rotate: web-2' }).click()
  await dialog.getByRole('button', { name: 'Rotate' }).click()
  await expect(dialog.locator('code')).toHaveText(/^tw_/)
  const second = (await dialog.locator('code').textContent()) ?? ''
  await dialog.getByRole('button', { name: 'I have it' }).click()
  expect([await reads(first), await reads(second)]).toEqual([401, 200])

  await page.getByRole('button', { name: 'Budget: web-2' }).click()
  await dialog.getByLabel('Budget, USD').fill('many')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(dialog.getByRole('alert')).toContainText('decimal number')
  await dialog.getByLabel('Budget, USD').fill('20')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('row', { name: /web-2/ })).toContainText('$0.00 of $20.00 this month')
  expect(await ask(admin, 'GET', '/admin/v1/keys/web-2')).toMatchObject({ bounds: { budget: { amount: '20.00', period: 'month' } } })

  await page.getByRole('button', { name: 'Revoke: web-2' }).click()
  await dialog.getByRole('button', { name: 'Revoke' }).click()
  await expect(page.getByRole('row', { name: /web-2/ })).toContainText('Revoked')
  expect(await reads(second)).toBe(401)
})

test('a customer is made with its plan, changed, suspended and resumed', async ({ page, plant, admin, visit }) => {
  await visit('customers')
  await page.getByRole('button', { name: 'New customer' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Id').fill('acme')
  await dialog.getByRole('button', { name: 'Make the customer' }).click()
  await expect(dialog.getByRole('alert')).toHaveText('There is one with this id already. Choose another id.')
  await dialog.getByLabel('Id').fill('beta')
  await dialog.getByLabel('Name').fill('Beta Ltd')
  await dialog.getByLabel('Plan').selectOption('starter')
  await dialog.getByLabel('Credit').selectOption('up to a limit')
  await dialog.getByRole('button', { name: 'Make the customer' }).click()
  await expect(dialog.getByRole('alert')).toContainText('e.g. 100.00')
  await isSound(page)
  await dialog.getByLabel('Limit, USD').fill('12.000000001')
  await dialog.getByLabel('Limit, USD').press('Enter')
  // The list has it without being asked for again.
  await expect(page.getByRole('row', { name: /Beta Ltd/ })).toContainText('starter')
  expect(await ask(admin, 'GET', '/admin/v1/organisations/beta')).toMatchObject({ name: 'Beta Ltd', plan: 'starter', credit: '12.000000001', suspended: false })
  expect(await ask(admin, 'GET', '/admin/v1/organisations/acme')).toMatchObject({ name: 'Acme' })

  await page.getByRole('link', { name: 'Beta Ltd' }).click()
  await page.getByRole('button', { name: 'Edit' }).click()
  await dialog.getByLabel('Name').fill('Beta & Co')
  await dialog.getByLabel('Credit').selectOption('pays in advance')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('heading', { name: 'Beta & Co' })).toBeVisible()
  expect(await ask(admin, 'GET', '/admin/v1/organisations/beta')).toMatchObject({ name: 'Beta & Co', credit: '0.00', plan: 'starter' })

  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'beta-app', organisation: 'beta', name: 'App' })
  const { key } = await ask(admin, 'POST', '/admin/v1/keys', { id: 'beta-1', project: 'beta-app', name: 'Beta' })
  const reads = async (): Promise<number> => (await fetch(`${plant.url}/v1/usage`, { headers: { authorization: `Bearer ${String(key)}` } })).status
  expect(await reads()).toBe(200)
  await page.getByRole('button', { name: 'Suspend', exact: true }).click()
  await expect(dialog.getByText('All its keys are refused at once')).toBeVisible()
  await isSound(page)
  await dialog.getByRole('button', { name: 'Suspend' }).click()
  await expect(page.getByText('Suspended', { exact: true })).toBeVisible()
  expect(await reads()).toBe(403)
  await page.getByRole('button', { name: 'Resume', exact: true }).click()
  await dialog.getByRole('button', { name: 'Resume' }).click()
  await expect(page.getByText('beta goes on.')).toBeVisible()
  expect(await reads()).toBe(200)
})

test('a project is made with its budget, changed and suspended', async ({ page, admin, visit }) => {
  await visit('customers/acme')
  await page.getByRole('button', { name: 'New project' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Id').fill('shop')
  await dialog.getByLabel('Name').fill('Shop')
  await dialog.getByLabel('Budget, USD').fill('-1')
  await dialog.getByRole('button', { name: 'Make the project' }).click()
  await expect(dialog.getByRole('alert')).toContainText('from 0 to')
  await isSound(page)
  await dialog.getByLabel('Budget, USD').fill('7.50')
  await dialog.getByLabel('Begins anew').selectOption('each day')
  await dialog.getByRole('button', { name: 'Make the project' }).click()
  const row = page.getByRole('row', { name: /Shop/ })
  await expect(row).toContainText('$0.00 of $7.50 today')
  expect(await ask(admin, 'GET', '/admin/v1/projects/shop')).toMatchObject({ organisation: 'acme', name: 'Shop', bounds: { budget: { amount: '7.50', period: 'day' } } })

  await page.getByRole('button', { name: 'Edit: shop' }).click()
  await dialog.getByLabel('Name').fill('Web shop')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('row', { name: /Web shop/ })).toContainText('$0.00 of $7.50 today')
  await page.getByRole('button', { name: 'Budget: shop' }).click()
  await dialog.getByLabel('Budget, USD').fill('')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByText('The budget of shop is set.').last()).toBeVisible()
  await expect(page.getByRole('row', { name: /Web shop/ })).toContainText('—')
  const kept = (await ask(admin, 'GET', '/admin/v1/projects/shop'))['bounds']
  expect(kept).not.toHaveProperty('budget')

  await page.getByRole('button', { name: 'Suspend: shop' }).click()
  await dialog.getByRole('button', { name: 'Suspend' }).click()
  await expect(page.getByRole('row', { name: /Web shop/ })).toContainText('Suspended')
  expect(await ask(admin, 'GET', '/admin/v1/projects/shop')).toMatchObject({ suspended: true, name: 'Web shop' })
})

test('a payment is booked once, however often it is sent', async ({ page, admin, answers, visit }) => {
  const payments = async (): Promise<number> => ((await ask(admin, 'GET', '/admin/v1/ledger/entries?kind=payment&limit=500'))['data'] as unknown[]).length
  const before = await payments()
  await visit('customers/acme')
  await page.getByRole('button', { name: 'Record a payment' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Paid, USD').fill('0')
  await dialog.getByRole('button', { name: 'Record a payment' }).click()
  await expect(dialog.getByRole('alert')).toContainText('other than 0')
  await isSound(page)
  await dialog.getByLabel('Paid, USD').fill('2.345678901')
  await dialog.getByRole('button', { name: 'Record a payment' }).dblclick()
  await expect(dialog.getByRole('heading', { name: 'The payment of acme is booked' })).toBeVisible()
  await isSound(page)
  expect(await payments()).toBe(before + 1)
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThanOrEqual(3)
  const { balance } = await ask(admin, 'GET', '/admin/v1/organisations/acme/standing')
  await expect(dialog.locator('[data-figure="balance"]')).toHaveText(`$${String(balance)}`)
  await dialog.getByRole('button', { name: 'Close' }).last().click()

  // A reference of one's own that was there before: it is told, and nothing is booked.
  await page.getByRole('button', { name: 'Record a payment' }).click()
  await dialog.getByLabel('Paid, USD').fill('5')
  await dialog.getByLabel('Reference').fill('transfer 17')
  await dialog.getByRole('button', { name: 'Record a payment' }).click()
  await expect(dialog.getByRole('heading', { name: 'Booked before: acme' })).toBeVisible()
  await dialog.getByRole('button', { name: 'Close' }).last().click()
  await page.getByRole('button', { name: 'Record a payment' }).click()
  await dialog.getByLabel('Paid, USD').fill('6')
  await dialog.getByLabel('Reference').fill('transfer 17')
  await dialog.getByRole('button', { name: 'Record a payment' }).click()
  await expect(dialog.getByRole('alert')).toContainText('This reference was used before, for 5.00')
  expect(await payments()).toBe(before + 1)
})

test('who administers one customer makes projects and keys of it, and nothing more', async ({ page, plant, admin }) => {
  const scopes = ['inference', 'usage', 'manage']
  const { key } = await ask(admin, 'POST', '/admin/v1/keys', { id: 'acme-admin', project: 'web', name: 'Acme admin', scopes })
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'rival', name: 'Rival', plan: 'starter', credit: '0' })
  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'secret-plan', organisation: 'rival', name: 'Secret' })
  await signIn(page, { url: plant.url, key: String(key) })
  await open(page, plant, 'customers', { ...WIDE, language: 'zh', width: 390 })
  await expect(page.getByRole('link', { name: 'Acme', exact: true })).toBeVisible()
  await expect(page.getByRole('button', { name: '新建客户' })).toHaveCount(0)
  await page.getByRole('link', { name: 'Acme', exact: true }).click()
  await expect(page.getByRole('button', { name: '新建项目' })).toBeVisible()
  for (const name of ['登记付款', '编辑', '停用']) await expect(page.getByRole('button', { name, exact: true })).toHaveCount(0)
  // Of an id that another customer has it learns nothing but that it cannot be used.
  await page.getByRole('button', { name: '新建项目' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('编号').fill('secret-plan')
  await dialog.getByRole('button', { name: '创建项目' }).click()
  await expect(dialog.getByRole('alert')).toHaveText('id: `secret-plan` cannot be used; choose another id')
  await dialog.getByRole('button', { name: '取消' }).click()

  await page.getByRole('button', { name: '新建密钥' }).click()
  await expect(dialog.getByRole('checkbox')).toHaveCount(3)
  await dialog.getByRole('button', { name: '创建密钥' }).click()
  await expect(dialog.getByRole('alert')).toHaveText('请填写编号，例如 web-1。')
  await dialog.getByLabel('编号').fill('reader-1')
  await dialog.getByRole('checkbox', { name: 'inference' }).uncheck()
  await dialog.getByRole('checkbox', { name: 'usage' }).uncheck()
  await dialog.getByLabel('到期时间（UTC）').fill('2020-01-01T00:00')
  await dialog.getByRole('button', { name: '创建密钥' }).click()
  await expect(dialog.getByRole('alert')).toHaveText(['将来的时间，或留空。', '请至少选择一项。'])
  await isSound(page)
  await dialog.getByRole('checkbox', { name: 'usage' }).check()
  await dialog.getByLabel('到期时间（UTC）').fill('2040-02-29T12:30')
  await dialog.getByLabel('预算（USD）').fill('3')
  await dialog.getByRole('button', { name: '创建密钥' }).click()
  await expect(dialog.locator('code')).toHaveText(/^tw_/)
  expect(await ask(admin, 'GET', '/admin/v1/keys/reader-1')).toMatchObject({
    scopes: ['usage'],
    expires: '2040-02-29T12:30:00Z',
    bounds: { budget: { amount: '3.00', period: 'month' } },
  })
})

test('what somebody else changed since the page was read is not lost', async ({ page, admin, visit }) => {
  const theirs = (): Promise<Record<string, unknown>> => ask(admin, 'GET', '/admin/v1/organisations/gamma')
  await ask(admin, 'PUT', '/admin/v1/plans', { id: 'gold', discount_permille: 100 })
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'gamma', name: 'Gamma', plan: 'starter', credit: '0' })
  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'gamma-app', organisation: 'gamma', name: 'App' })
  await visit('customers/gamma')
  await expect(page.getByText('Plan: starter')).toBeVisible()
  // Before the dialog opens.
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'gamma', name: 'Gamma', plan: 'gold', credit: '0' })
  await page.getByRole('button', { name: 'Edit', exact: true }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Name').fill('Gamma & Co')
  for (let time = 0; time < 2; time += 1) {
    await dialog.getByRole('button', { name: 'Save' }).click()
    await expect(dialog.getByRole('alert')).toContainText('Somebody changed it meanwhile')
    // The page has theirs, and the form still what it was filled from: it is refused again.
    await expect(page.getByText('Plan: gold')).toBeVisible()
  }
  expect(await theirs()).toMatchObject({ name: 'Gamma', plan: 'gold' })
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: 'Edit', exact: true }).click()
  await expect(dialog.getByLabel('Plan')).toHaveValue('gold')
  await dialog.getByLabel('Name').fill('Gamma & Co')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('heading', { name: 'Gamma & Co' })).toBeVisible()
  expect(await theirs()).toMatchObject({ name: 'Gamma & Co', plan: 'gold' })

  const bounds = { budget: { amount: '9.00', period: 'day', alert_percent: [50] } }
  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'gamma-app', organisation: 'gamma', name: 'App', bounds })
  await page.getByRole('button', { name: 'Budget: gamma-app' }).click()
  await dialog.getByLabel('Budget, USD').fill('1')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(dialog.getByRole('alert')).toContainText('Somebody changed it meanwhile')
  expect(await ask(admin, 'GET', '/admin/v1/projects/gamma-app')).toMatchObject({ bounds })
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await expect(page.getByRole('row', { name: /App/ })).toContainText('$0.00 of $9.00 today')

  // While the dialog is open, where there is nothing to fill in.
  await page.getByRole('button', { name: 'Suspend', exact: true }).click()
  await page.waitForLoadState('networkidle')
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'gamma', name: 'Gamma', plan: 'starter', credit: '0' })
  await dialog.getByRole('button', { name: 'Suspend' }).click()
  await expect(dialog.getByRole('alert')).toContainText('Somebody changed it meanwhile')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await expect(page.getByText('Plan: starter')).toBeVisible()
  expect(await theirs()).toMatchObject({ plan: 'starter', suspended: false })
})

test('the text of a key stays until somebody says to have it', async ({ page, admin, visit }) => {
  await ask(admin, 'POST', '/admin/v1/keys', { id: 'kept-1', project: 'web', name: 'Kept' })
  await visit('customers/acme')
  await page.getByRole('button', { name: 'Rotate: kept-1' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('button', { name: 'Rotate' }).click()
  const text = dialog.locator('code')
  await expect(text).toHaveText(/^tw_/)
  await expect(dialog.getByRole('button', { name: 'Close' })).toHaveCount(0)
  for (let time = 0; time < 3; time += 1) {
    await page.keyboard.press('Escape')
    await expect(text).toBeVisible()
  }
  await isSound(page)
  await dialog.getByRole('button', { name: 'I have it' }).click()
  await expect(dialog).toHaveCount(0)
})

test('the key of the session is not revoked without a warning', async ({ page, plant, admin }) => {
  const { key } = await ask(admin, 'POST', '/admin/v1/keys', { id: 'own-1', project: 'web', name: 'Own', scopes: ['manage'] })
  await signIn(page, { url: plant.url, key: String(key) })
  await open(page, plant, 'customers/acme', WIDE)
  const dialog = page.getByRole('dialog')
  await page.getByRole('button', { name: 'Revoke: web-1' }).click()
  await expect(dialog.getByText('It is refused at once')).not.toContainText('signed in')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: 'Revoke: own-1' }).click()
  await expect(dialog.getByText('You are signed in with this key')).toBeVisible()
  await dialog.getByRole('button', { name: 'Revoke' }).click()
  await expect(page.getByLabel('API key')).toBeVisible()
})

test('what can be done stays in reach beside long names', async ({ page, admin, visit }) => {
  const [name, id] = ['n'.repeat(200), 'i'.repeat(60)]
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: `org-${id}`, name, plan: 'starter', credit: '0' })
  await ask(admin, 'PUT', '/admin/v1/teams', { id: `tm-${id}`, organisation: `org-${id}`, name })
  await ask(admin, 'PUT', '/admin/v1/projects', { id: `pr-${id}`, organisation: `org-${id}`, name, team: `tm-${id}`, store_content: { days: 1 } })
  await ask(admin, 'POST', '/admin/v1/keys', { id: `key-${id}`, project: `pr-${id}`, name })
  for (const look of LOOKS) {
    await visit('customers', look)
    await expect(page.getByRole('link', { name })).toBeVisible()
    await isSound(page)
    await visit(`customers/org-${id}`, look)
    const buttons = page.locator('td button')
    await expect(buttons).toHaveCount(10)
    for (const button of await buttons.all()) {
      const box = await button.boundingBox()
      expect(box && box.x >= 0 && box.x + box.width <= look.width, `${nameOf(look)}: ${String(await button.textContent())}`).toBe(true)
    }
    await isSound(page)
  }
})

test('a page that is left does not ask for the place of the next one', async ({ page, visit }) => {
  const asked: string[] = []
  page.on('request', (request) => asked.push(new URL(request.url()).pathname))
  await visit('requests')
  await page.locator('tbody a, tbody tr.pickable').first().click()
  await expect(page.getByRole('link', { name: /All requests/ })).toBeVisible()
  for (const from of [new URL(page.url()).hash, '#/customers/acme']) {
    await page.evaluate((hash) => (location.hash = hash), from)
    await expect(page.getByRole('heading', { level: 2 }).first()).toBeVisible()
    await page.evaluate(() => (location.hash = '#/books/alerts'))
    await expect(page.getByRole('heading', { name: 'Budgets' })).toBeVisible()
    await page.waitForLoadState('networkidle')
  }
  expect(asked.filter((path) => /(requests|organisations)\/alerts/.test(path))).toEqual([])
})
