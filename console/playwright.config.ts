import { defineConfig } from '@playwright/test'

/** The browser that the system has; none is fetched. */
const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium'

export default defineConfig({
  testDir: 'tests',
  testMatch: '*.spec.ts',
  // Each has a server and a model of its own; two keep two processors busy, one waits half of the time.
  workers: 2,
  fullyParallel: false,
  timeout: 120_000,
  expect: { timeout: 20_000 },
  forbidOnly: true,
  reporter: [['list']],
  use: {
    browserName: 'chromium',
    // In a container there is no sandbox to be had for root.
    launchOptions: { executablePath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] },
    trace: 'off',
  },
})
