import { defineConfig } from '@playwright/test'

/** The browser that the system has; none is fetched. */
const executablePath = process.env['CHROMIUM'] ?? '/usr/bin/chromium'

export default defineConfig({
  testDir: 'tests',
  testMatch: '*.spec.ts',
  // One server with one model on few processors: what runs beside it would only measure the queue.
  workers: 1,
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
