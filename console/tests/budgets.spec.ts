/** Teams, budgets and what is used of them, and whose keys a person makes. */
import type { Locator } from '@playwright/test'
import { expect, isSound, open, WIDE } from './fixtures'
import { MODEL } from './plant'
import { figuresAreTheirs, signIn, test } from './traded'
import { ask } from './trade'

test('a team bounds the projects that are given to it', async ({ page, admin, visit }) => {
  const of = { plan: 'starter', credit: '0' }
  const end_user_bounds = { budget: { amount: '1.00', period: 'month', soft: false, alert_percent: [90] } }
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'teamwork', name: 'Teamwork', ...of, bounds: { limits: { requests_per_minute: 90 } }, end_user_bounds })
  await visit('customers/teamwork')
  await expect(page.getByText('No teams')).toBeVisible()
  await page.getByRole('button', { name: 'New team' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Id').fill('red-team')
  await dialog.getByLabel('Name').fill('Red')
  await expect(dialog.getByLabel('Alerts at, in percent')).toHaveCount(0)
  await dialog.getByLabel('Budget, USD').fill('9')
  await dialog.getByLabel('Alerts at, in percent').fill('half')
  await dialog.getByRole('button', { name: 'Make the team' }).click()
  await expect(dialog.getByRole('alert')).toContainText('whole numbers from 1 to 1000')
  await isSound(page)
  await dialog.getByLabel('Alerts at, in percent').fill('100; 50%')
  await dialog.getByLabel('Once it is spent').selectOption('it is only watched')
  await dialog.getByRole('button', { name: 'Make the team' }).click()
  const row = page.getByRole('row', { name: /red-team/ })
  await expect(row).toContainText(/\$0\.00 of \$9\.00 this month\s*Only watched/)
  const budget = { amount: '9.00', period: 'month', soft: true, alert_percent: [50, 100] }
  expect(await ask(admin, 'GET', '/admin/v1/teams/red-team')).toMatchObject({ organisation: 'teamwork', name: 'Red', bounds: { budget } })

  await page.getByRole('button', { name: 'New project' }).click()
  await dialog.getByLabel('Id').fill('red-app')
  await dialog.getByLabel('Team').selectOption('Red')
  await dialog.getByRole('button', { name: 'Make the project' }).click()
  await expect(page.getByRole('row', { name: /red-app/ }).last()).toContainText('Red')
  expect(await ask(admin, 'GET', '/admin/v1/projects/red-app')).toMatchObject({ team: 'red-team' })
  await page.getByRole('button', { name: 'Edit: red-app' }).click()
  await expect(dialog.getByLabel('Team')).toHaveValue('red-team')
  await dialog.getByLabel('Team').selectOption('No team')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('row', { name: /red-app/ })).toHaveCount(1)
  expect(await ask(admin, 'GET', '/admin/v1/projects/red-app')).not.toHaveProperty('team')

  await page.getByRole('button', { name: 'Edit: red-team' }).click()
  await dialog.getByLabel('Name').fill('Scarlet')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(row).toContainText('Scarlet')
  // What the form does not show stays: limits set elsewhere.
  const team = await ask(admin, 'GET', '/admin/v1/teams/red-team')
  await ask(admin, 'PUT', '/admin/v1/teams', { ...team, bounds: { budget, limits: { concurrent_requests: 3 } } })
  await page.reload()
  await page.getByRole('button', { name: 'Budget: red-team' }).click()
  await expect(dialog.getByLabel('Alerts at, in percent')).toHaveValue('50, 100')
  await dialog.getByLabel('Budget, USD').fill('12')
  await dialog.getByLabel('Once it is spent').selectOption('requests are refused')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(row).toContainText('$0.00 of $12.00 this month')
  await expect(row).not.toContainText('Only watched')
  const bounds = { budget: { ...budget, amount: '12.00', soft: false }, limits: { concurrent_requests: 3 } }
  expect(await ask(admin, 'GET', '/admin/v1/teams/red-team')).toMatchObject({ name: 'Scarlet', bounds })

  // The customer as a whole.
  await page.getByRole('button', { name: 'Budget: teamwork' }).click()
  await dialog.getByLabel('Budget, USD').fill('40')
  await dialog.getByLabel('Begins anew').selectOption('never')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByText('$0.00 of $40.00 in all')).toBeVisible()
  expect(await ask(admin, 'GET', '/admin/v1/organisations/teamwork')).toMatchObject({
    ...of,
    credit: '0.00',
    name: 'Teamwork',
    bounds: { limits: { requests_per_minute: 90 }, budget: { amount: '40.00', period: 'forever', soft: false, alert_percent: [] } },
    end_user_bounds,
  })
})

test('what is used of budgets is shown beside them', async ({ page, plant, admin, answers, visit }) => {
  const organisation = 'spender'
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: organisation, name: 'Spender', plan: 'starter', bounds: { budget: { amount: '1' } } })
  await ask(admin, 'PUT', '/admin/v1/teams', { id: 'spenders', organisation, name: 'Spenders', bounds: { budget: { amount: '0.0005', period: 'day', soft: true, alert_percent: [50] } } })
  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'spending', organisation, team: 'spenders', name: 'Spending', bounds: { budget: { amount: '0.0012', period: 'forever' } } })
  const { key } = await ask(admin, 'POST', '/admin/v1/keys', { id: 'spend-1', project: 'spending', name: 'Spend', bounds: { budget: { amount: '0.001', alert_percent: [80, 100] } } })
  const spender = { url: plant.url, key: String(key) }
  let charged = 0
  // Its last answer ends at the last token that the key's budget pays for.
  for (let spent = false; !spent; ) {
    const body = { model: MODEL, prompt: 'The towns beside the river', max_tokens: 12, ignore_eos: true }
    const { usage, tokenworks } = (await ask(spender, 'POST', '/v1/completions', body)) as { usage: { charged: { amount: string } }; tokenworks?: { stop_reason?: string } }
    charged += Number(usage.charged.amount)
    spent = 0.001 - charged < 0.00003 || tokenworks?.stop_reason === 'budget'
  }
  await visit(`customers/${organisation}`)
  const row = (name: RegExp): Locator => page.getByRole('row', { name })
  await expect(row(/spend-1/)).toContainText('Used up')
  await expect(row(/spenders/)).toContainText(/Only watched\s*\d{3}/)
  await expect(row(/of \$0\.0012 in all/)).toContainText('Spending')
  // Four budgets, spent and amount, and the three figures of the standing.
  expect(await figuresAreTheirs(page, answers)).toBe(11)
  const { data } = await ask(admin, 'GET', `/admin/v1/organisations/${organisation}/budgets`)
  const rows = data as { level: string; spent: string; raised: number[] }[]
  expect(rows.map(({ level }) => level)).toEqual(['organisation', 'team', 'project', 'key'])
  for (const { spent } of rows) expect(Number(spent)).toBeCloseTo(charged, 9)
  expect(rows.map(({ raised }) => raised)).toEqual([[], [50], [], [80, 100]])
  await isSound(page)

  // The same among all, and alone.
  await open(page, plant, 'books/alerts?customer=spender', { ...WIDE, theme: 'dark', language: 'zh', width: 390 })
  // The language is chosen when the page loads.
  await page.reload()
  await expect(page.locator('[data-figure="data.3.left"]')).toBeVisible()
  expect(await figuresAreTheirs(page, answers, { ...WIDE, language: 'zh' })).toBeGreaterThanOrEqual(16)
  await isSound(page)
  await page.getByLabel('客户').selectOption('全部')
  await expect(page.getByRole('row', { name: /spend-1/ }).first()).toContainText('已用完')
  await expect(page.getByRole('row', { name: /web-1/ }).first()).toContainText('本月')
})

test('a person’s key makes keys of that person', async ({ page, plant, admin }) => {
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: 'persons', name: 'Persons', plan: 'starter', credit: '0' })
  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'personal', organisation: 'persons', name: 'Personal' })
  await ask(admin, 'PUT', '/admin/v1/members', { organisation: 'persons', person: 'ann', role: 'admin' })
  const scopes = ['inference', 'manage']
  const { key } = await ask(admin, 'POST', '/admin/v1/keys', { id: 'ann-1', project: 'personal', name: 'Ann', scopes, owner: 'ann' })
  await signIn(page, { url: plant.url, key: String(key) })
  await open(page, plant, 'customers/persons', WIDE)
  await page.getByRole('button', { name: 'New key' }).click()
  const dialog = page.getByRole('dialog')
  await expect(dialog.getByText('Not to be given by your own key, which lacks it: usage, plant.')).toBeVisible()
  await expect(dialog.getByText('It belongs to ann, as your own key does')).toBeVisible()
  await isSound(page)
  await dialog.getByLabel('Id').fill('ann-2')
  await dialog.getByRole('button', { name: 'Make the key' }).click()
  await expect(dialog.locator('code')).toHaveText(/^tw_/)
  expect(await ask(admin, 'GET', '/admin/v1/keys/ann-2')).toMatchObject({ owner: 'ann', scopes: ['inference'] })
})
