/** A real server with the real default model, in a data folder of its own. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const MODEL = 'smollm2-135m'
/** The other model of the tests, with a tokenizer of another kind. */
export const OTHER_MODEL = 'gemma3-270m'
const ROOT = join(import.meta.dirname, '../..')
const START_MS = 120_000

export interface Plant {
  url: string
  /** The server's process. */
  pid: number
  /** The one-time link, where there is one. */
  claim: string | null
  /** Ends the server and waits for it. */
  stop: () => Promise<void>
  /** The same, with its folder left for another one. */
  halt: () => Promise<void>
}

interface Own {
  /** Names of files in the folder of models. */
  names?: string[]
  /** More of its configuration. */
  more?: string
}

/** A data folder of its own. */
export const newFolder = (): string => mkdtempSync(join(tmpdir(), 'tokenworks-console-'))

/** Starts one. `port`: that of an earlier one, to come back at the same address. */
export async function start(port = 0, folder = newFolder(), own: Own = {}): Promise<Plant> {
  const program = process.env['TOKENWORKS_TEST_BIN'] ?? join(ROOT, 'target/debug/tokenworks')
  const models = process.env['TOKENWORKS_TEST_MODELS'] ?? join(ROOT, 'target/test-models')
  const config = join(folder, 'tokenworks.toml')
  const names = own.names ?? [MODEL]
  const sources = names.map((name) => `[models."${name}"]\nsource = ${JSON.stringify(join(models, `${name}.gguf`))}\n`)
  writeFileSync(config, `${sources.join('\n')}${own.more ?? ''}`)
  const args = ['serve', ...names, '--port', String(port), '--config', config, '--data-dir', join(folder, 'data')]
  // The caller's own settings must not change what is tested.
  const kept = Object.entries(process.env).filter(([name]) => !/^(TOKENWORKS_|XDG_)/.test(name))
  const env = { ...Object.fromEntries(kept), HOME: folder, NO_COLOR: '1' }
  const child = spawn(program, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const banner = await started(child)
  const url = /serves on (\S+)/.exec(banner)?.[1]
  if (!url) throw new Error(`no address in:\n${banner}`)
  return { url, pid: child.pid ?? 0, claim: /(http\S+\/admin\/claim\/\w+)/.exec(banner)?.[1] ?? null, stop: () => stopped(child, folder), halt: () => halted(child) }
}

async function started(child: ChildProcess): Promise<string> {
  let [out, log] = ['', '']
  child.stderr?.on('data', (text: Buffer) => (log = (log + text.toString()).slice(-4000)))
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the server did not start:\n${out}\n${log}`)), START_MS)
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}:\n${out}\n${log}`)))
    child.on('error', reject)
    child.stdout?.on('data', (text: Buffer) => {
      out += text.toString()
      if (out.includes('Ctrl-C stops')) {
        clearTimeout(late)
        resolve(out)
      }
    })
  })
}

async function stopped(child: ChildProcess, folder: string): Promise<void> {
  await halted(child)
  rmSync(folder, { recursive: true, force: true })
}

async function halted(child: ChildProcess): Promise<void> {
  child.removeAllListeners('exit')
  if (child.exitCode === null) {
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await gone
  }
}

/** Has the plant answer something. */
export async function work(url: string, headers: Record<string, string> = {}, tokens = 48): Promise<void> {
  const body = {
    model: MODEL,
    messages: [{ role: 'user', content: 'Write a few sentences about rivers and the towns beside them.' }],
    max_tokens: tokens,
  }
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  await answer.arrayBuffer()
}
