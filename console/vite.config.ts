import { svelte } from '@sveltejs/vite-plugin-svelte'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

// The server that `npm run dev` passes API calls on to.
const backend = process.env['TOKENWORKS_URL'] ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [svelte()],
  resolve: {
    alias: { $lib: fileURLToPath(new URL('./src', import.meta.url)) },
    ...(process.env['VITEST'] ? { conditions: ['browser'] } : {}),
  },
  // The policy of the server forbids inline data, and what is built must not depend on the machine.
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: false },
  server: { proxy: { '/v1': backend, '/admin': backend, '/tokenize': backend, '/detokenize': backend, '/health': backend, '/ready': backend, '/openapi.json': backend } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
})
