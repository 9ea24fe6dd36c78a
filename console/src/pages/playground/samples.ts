import type { Body, Mode } from './settings'

const SAMPLES = ['curl', 'python', 'javascript'] as const
export type SampleKind = (typeof SAMPLES)[number]

export const ROUTES: Record<Mode, '/v1/chat/completions' | '/v1/completions'> = { chat: '/v1/chat/completions', completion: '/v1/completions' }

/** Fields that OpenAI's Python client does not know and takes by `extra_body`. */
const EXTRA = ['top_k', 'min_p', 'repetition_penalty', 'priority', 'ignore_eos']
const EXTRAS: Record<Mode, readonly string[]> = { chat: EXTRA, completion: [...EXTRA, 'metadata'] }

/** The same request as a program would send it. The key is read from `TOKENWORKS_API_KEY`; none stands in the code. */
export function sample(kind: SampleKind, mode: Mode, origin: string, body: Body): string {
  if (kind === 'curl') return curl(mode, origin, body)
  return kind === 'python' ? python(mode, origin, body) : javascript(mode, origin, body)
}

function curl(mode: Mode, origin: string, body: Body): string {
  // Within quotes of a shell only the quote itself needs care.
  const json = JSON.stringify(body, null, 2).replace(/'/g, `'\\''`)
  return [
    `curl -N '${origin}${ROUTES[mode]}' \\`,
    `  -H "Authorization: Bearer $TOKENWORKS_API_KEY" \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '${json}'`,
  ].join('\n')
}

function python(mode: Mode, origin: string, body: Body): string {
  const known = Object.entries(body).filter(([name]) => !EXTRAS[mode].includes(name))
  const extra = Object.fromEntries(Object.entries(body).filter(([name]) => EXTRAS[mode].includes(name)))
  const fields = known.map(([name, value]) => `    ${name}=${pythonOf(value, 4)},`)
  if (Object.keys(extra).length > 0) fields.push(`    extra_body=${pythonOf(extra, 4)},`)
  const text = mode === 'chat' ? 'choice.delta.content' : 'choice.text'
  return [
    'import os',
    '',
    'from openai import OpenAI',
    '',
    `client = OpenAI(base_url="${origin}/v1", api_key=os.environ["TOKENWORKS_API_KEY"])`,
    `stream = client.${mode === 'chat' ? 'chat.completions' : 'completions'}.create(`,
    ...fields,
    ')',
    'for chunk in stream:',
    '    for choice in chunk.choices:',
    `        print(${text} or "", end="", flush=True)`,
    '    if chunk.usage:',
    '        print("\\n", chunk.usage)',
  ].join('\n')
}

/** A value as Python writes it. */
export function pythonOf(value: unknown, indent: number): string {
  const [inner, outer] = [' '.repeat(indent + 4), ' '.repeat(indent)]
  if (value === true) return 'True'
  if (value === false) return 'False'
  if (value === null || value === undefined) return 'None'
  if (Array.isArray(value)) {
    return value.length === 0 ? '[]' : `[\n${value.map((one) => `${inner}${pythonOf(one, indent + 4)},\n`).join('')}${outer}]`
  }
  if (typeof value === 'object') {
    const pairs = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonOf(one, indent + 4)}`)
    return `{${pairs.join(', ')}}`
  }
  // Python reads JSON's strings and numbers as they are.
  return JSON.stringify(value)
}

function javascript(mode: Mode, origin: string, body: Body): string {
  const text = mode === 'chat' ? 'choice.delta.content' : 'choice.text'
  return [
    `import OpenAI from 'openai'`,
    '',
    `const client = new OpenAI({ baseURL: '${origin}/v1', apiKey: process.env.TOKENWORKS_API_KEY })`,
    `const stream = await client.${mode === 'chat' ? 'chat.completions' : 'completions'}.create(${JSON.stringify(body, null, 2)})`,
    'for await (const chunk of stream) {',
    `  for (const choice of chunk.choices) process.stdout.write(${text} ?? '')`,
    '  if (chunk.usage) console.log(chunk.usage)',
    '}',
  ].join('\n')
}
