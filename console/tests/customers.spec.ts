import { expect, isSound, LOOKS, nameOf } from './fixtures'
import { figuresAreTheirs, test } from './traded'
import { ask } from './trade'

for (const look of LOOKS) {
  test(`customers and their keys, ${nameOf(look)}`, async ({ page, answers, visit }) => {
    await visit('customers', look)
    await page.getByRole('link', { name: 'Acme', exact: true }).click()
    await expect(page.locator('[data-figure="balance"]')).toBeVisible()
    await isSound(page)
    expect(await figuresAreTheirs(page, answers, look)).toBe(3)
  })
}

test('a key is made, rotated, bounded and revoked', async ({ page, plant, admin, visit }) => {
  const reads = async (key: string): Promise<number> => (await fetch(`${plant.url}/v1/usage`, { headers: { authorization: `Bearer ${key}` } })).status
  await visit('customers/acme')
  await page.getByRole('button', { name: 'New key' }).click()
  const dialog = page.getByRole('dialog')
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

  await page.getByRole('button', { name: 'Rotate: web-2' }).click()
  await dialog.getByRole('button', { name: 'Rotate' }).click()
  await expect(dialog.locator('code')).toHaveText(/^tw_/)
  const second = (await dialog.locator('code').textContent()) ?? ''
  await dialog.getByRole('button', { name: 'I have it' }).click()
  expect([await reads(first), await reads(second)]).toEqual([401, 200])

  await page.getByRole('button', { name: 'Budget: web-2' }).click()
  await dialog.getByLabel('Amount').fill('many')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(dialog.getByRole('alert')).toContainText('decimal number')
  await dialog.getByLabel('Amount').fill('20')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('row', { name: /web-2/ })).toContainText('$20.00 a month')
  expect(await ask(admin, 'GET', '/admin/v1/keys/web-2')).toMatchObject({ bounds: { budget: { amount: '20.00', period: 'month' } } })

  await page.getByRole('button', { name: 'Revoke: web-2' }).click()
  await dialog.getByRole('button', { name: 'Revoke' }).click()
  await expect(page.getByRole('row', { name: /web-2/ })).toContainText('Revoked')
  expect(await reads(second)).toBe(401)
})
