/** Chat, or the continuation of a text. */
export type Mode = 'chat' | 'completion'

/** What a person typed for one side. All are texts: an empty one is not sent, and the server's default holds. */
export interface Settings {
  model: string
  system: string
  temperature: string
  top_p: string
  top_k: string
  min_p: string
  presence_penalty: string
  frequency_penalty: string
  repetition_penalty: string
  seed: string
  max_tokens: string
  stop: string
  n: string
  logit_bias: string
  priority: string
  user: string
  tag: string
  /** How many alternatives of each token. */
  top_logprobs: string
  has_logprobs: boolean
  ignore_eos: boolean
  echo: boolean
}

const NUMBERS = [
  'temperature', 'top_p', 'top_k', 'min_p', 'presence_penalty', 'frequency_penalty', 'repetition_penalty', 'seed', 'max_tokens', 'n', 'priority',
] as const
/** Those that have no fractions. */
const WHOLE: readonly string[] = ['top_k', 'seed', 'max_tokens', 'n', 'priority', 'top_logprobs']

export const FRESH: Settings = {
  model: '', system: '', temperature: '', top_p: '', top_k: '', min_p: '', presence_penalty: '', frequency_penalty: '', repetition_penalty: '',
  seed: '', max_tokens: '256', stop: '', n: '', logit_bias: '', priority: '', user: '', tag: '', top_logprobs: '5', has_logprobs: false,
  ignore_eos: false, echo: false,
}

export type Body = Record<string, unknown>
/** What is wrong, by the field's name. */
export type Faults = Partial<Record<keyof Settings, 'number' | 'whole' | 'bias'>>

export interface Turn {
  role: 'user' | 'assistant'
  content: string
}

/** The request of these settings. What the ranges are is the server's to say; here only what is no number at all is found. */
export function bodyOf(mode: Mode, settings: Settings, turns: readonly Turn[]): { body: Body; faults: Faults } {
  const faults: Faults = {}
  const body: Body = { model: settings.model }
  if (mode === 'chat') {
    const system = settings.system.trim() === '' ? [] : [{ role: 'system', content: settings.system }]
    body['messages'] = [...system, ...turns]
  } else {
    body['prompt'] = turns.at(-1)?.content ?? ''
  }
  for (const name of NUMBERS) put(body, faults, settings, name)
  const stop = settings.stop.split('\n').filter((line) => line !== '')
  if (stop.length > 0) body['stop'] = stop.map(unescaped)
  const bias = biasOf(settings.logit_bias)
  if (bias === null) faults.logit_bias = 'bias'
  else if (Object.keys(bias).length > 0) body['logit_bias'] = bias
  if (settings.user.trim() !== '') body['user'] = settings.user.trim()
  if (settings.tag.trim() !== '') body['metadata'] = { tag: settings.tag.trim() }
  if (settings.ignore_eos) body['ignore_eos'] = true
  if (mode === 'completion' && settings.echo) body['echo'] = true
  if (settings.has_logprobs) putLogprobs(mode, body, faults, settings)
  return { body: { ...body, stream: true, stream_options: { include_usage: true } }, faults }
}

function putLogprobs(mode: Mode, body: Body, faults: Faults, settings: Settings): void {
  put(body, faults, settings, 'top_logprobs')
  if (mode === 'chat') {
    body['logprobs'] = true
    return
  }
  body['logprobs'] = body['top_logprobs'] ?? 0
  delete body['top_logprobs']
}

function put(body: Body, faults: Faults, settings: Settings, name: (typeof NUMBERS)[number] | 'top_logprobs'): void {
  const text = settings[name].trim()
  if (text === '') return
  const value = Number(text)
  if (!Number.isFinite(value)) faults[name] = 'number'
  else if (WHOLE.includes(name) && !Number.isSafeInteger(value)) faults[name] = 'whole'
  else body[name] = value
}

/** `\n` and `\t` stand for themselves in a field of one line each. */
function unescaped(line: string): string {
  return line.replace(/\\([nt\\])/g, (_, letter: string) => (letter === 'n' ? '\n' : letter === 't' ? '\t' : '\\'))
}

/** Lines of `id: value`. `null`: one of them is something else. */
function biasOf(text: string): Record<string, number> | null {
  const lines = text.split('\n').map((line) => line.trim()).filter((line) => line !== '')
  const pairs = lines.map((line) => /^(\d+)\s*[:=]\s*(-?\d+(?:\.\d+)?)$/.exec(line))
  if (pairs.some((pair) => pair === null)) return null
  return Object.fromEntries(pairs.map((pair) => [pair?.[1] ?? '', Number(pair?.[2])]))
}

/** The field that the server means by `param`, so that its words can stand there. */
export function fieldOf(param: string | null, mode: Mode): keyof Settings | null {
  const name = (param ?? '').split(/[.[]/)[0] ?? ''
  if (name === 'metadata') return 'tag'
  if (name === 'max_completion_tokens') return 'max_tokens'
  if (name === 'logprobs') return mode === 'completion' ? 'top_logprobs' : null
  return name in FRESH ? (name as keyof Settings) : null
}
