import { describe, expect, it } from 'vitest'
import { BLANK, fold, hasText, tokensPerSecond, ttft, type Frame, type Usage } from './answer'
import { costOf, less } from '$lib/api/cost'
import { levelOf, ranking } from './heat'
import { pythonOf, sample } from './samples'
import { bodyOf, fieldOf, FRESH } from './settings'

const ask = (text: string): { role: 'user'; content: string }[] => [{ role: 'user', content: text }]

describe('requests', () => {
  it('leave out what is empty', () => {
    const { body, faults } = bodyOf('chat', { ...FRESH, model: 'm', max_tokens: '' }, ask('hi'))
    expect(body).toEqual({ model: 'm', messages: ask('hi'), stream: true, stream_options: { include_usage: true } })
    expect(faults).toEqual({})
  })

  it('carry every setting', () => {
    const settings = {
      ...FRESH, model: 'm', system: 'Be brief', temperature: '0', top_p: '0.9', top_k: '40', min_p: '0.05', presence_penalty: '-1',
      frequency_penalty: '1', repetition_penalty: '1.1', seed: '7', max_tokens: '5', stop: 'END\n\\n\\n', n: '2', logit_bias: '5: -100\n 6 = 1.5',
      priority: '-3', user: ' u ', tag: 't', has_logprobs: true, ignore_eos: true, echo: true,
    }
    const { body } = bodyOf('chat', settings, ask('hi'))
    expect(body).toMatchObject({
      messages: [{ role: 'system', content: 'Be brief' }, { role: 'user', content: 'hi' }], temperature: 0, top_p: 0.9, top_k: 40, min_p: 0.05,
      presence_penalty: -1, frequency_penalty: 1, repetition_penalty: 1.1, seed: 7, max_tokens: 5, stop: ['END', '\n\n'], n: 2,
      logit_bias: { 5: -100, 6: 1.5 }, priority: -3, user: 'u', metadata: { tag: 't' }, logprobs: true, top_logprobs: 5, ignore_eos: true,
    })
    expect(body).not.toHaveProperty('echo')
    const completion = bodyOf('completion', settings, ask('Once')).body
    expect(completion).toMatchObject({ prompt: 'Once', logprobs: 5, echo: true })
    expect(completion).not.toHaveProperty('top_logprobs')
    expect(completion).not.toHaveProperty('messages')
  })

  it('say which field is no number', () => {
    const { faults } = bodyOf('chat', { ...FRESH, temperature: 'warm', seed: '1.5', logit_bias: 'x: 1' }, ask('hi'))
    expect(faults).toEqual({ temperature: 'number', seed: 'whole', logit_bias: 'bias' })
  })

  it('find the field that a refusal names', () => {
    expect([fieldOf('temperature', 'chat'), fieldOf('metadata.tag', 'chat'), fieldOf('logprobs', 'completion'), fieldOf('messages[0]', 'chat')]).toEqual([
      'temperature', 'tag', 'top_logprobs', null,
    ])
  })
})

const chunk = (choices: unknown[], usage: unknown = null): Frame => ({ id: 'chatcmpl-1', choices, usage }) as unknown as Frame

describe('answers', () => {
  it('grow frame by frame, each candidate by itself', () => {
    const token = { token: 'Hi', logprob: -0.5, top_logprobs: [{ token: 'Yo', logprob: -1 }] }
    const frames = [
      chunk([{ index: 1, delta: { role: 'assistant', content: '' } }]),
      chunk([{ index: 1, delta: { content: 'Hi' }, logprobs: { content: [token] } }]),
      chunk([{ index: 0, delta: { content: 'A' } }]),
      chunk([{ index: 1, delta: {}, finish_reason: 'length' }]),
      chunk([{ index: 0, delta: {}, finish_reason: 'length', tokenworks: { stop: 'budget' } }]),
      chunk([], { completion_tokens: 2 }),
    ]
    expect(frames.map(hasText)).toEqual([false, true, true, false, false, false])
    const answer = frames.reduce(fold, BLANK)
    expect(answer.candidates.map(({ text, finish }) => [text, finish])).toEqual([['A', 'budget'], ['Hi', 'length']])
    expect(answer.candidates[1]?.tokens).toEqual([{ text: 'Hi', logprob: -0.5, alternatives: [{ text: 'Yo', logprob: -1 }] }])
    expect([answer.id, answer.usage?.completion_tokens]).toEqual(['chatcmpl-1', 2])
  })

  it('of completions have the same tokens, with the prompt before them', () => {
    const logprobs = { tokens: ['Hi', 'bytes:\\xe4'], token_logprobs: [null, -2], top_logprobs: [null, { a: -3, 'bytes:\\xe4': -2 }], text_offset: [0, 2] }
    const answer = fold(BLANK, chunk([{ index: 0, text: 'Hi', logprobs }]))
    expect(answer.candidates[0]?.tokens).toEqual([
      { text: 'Hi', logprob: null, alternatives: [] },
      { text: '\\xe4', logprob: -2, alternatives: [{ text: '\\xe4', logprob: -2 }, { text: 'a', logprob: -3 }] },
    ])
  })

  it('are timed from the first token, which is counted once for each candidate', () => {
    const times = { begun: 1000, first: 1250, ended: 3250 }
    const usage = { completion_tokens: 42 } as Usage
    expect(ttft(times)).toBe(0.25)
    expect(tokensPerSecond(times, usage, 2)).toBe(20)
    expect(tokensPerSecond(times, { completion_tokens: 1 } as Usage, 1)).toBeNull()
    expect([tokensPerSecond({ ...times, ended: null }, usage, 1), tokensPerSecond(times, null, 1)]).toEqual([null, null])
  })
})

describe('heat', () => {
  it('rises as the model is less sure', () => {
    const levels = [1, 0.9, 0.89, 0.5, 0.3, 0.2, 0.1, 0.05, 0.001].map((share) => levelOf(Math.log(share) + 1e-12))
    expect(levels).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4])
    expect([levelOf(null), levelOf(-Infinity), levelOf(1e-9)]).toEqual([null, 4, 0])
  })

  it('ranks the chosen token among the others', () => {
    const token = { text: 'c', logprob: -5, alternatives: [{ text: 'a', logprob: -1 }, { text: 'b', logprob: -2 }] }
    expect(ranking(token).map(({ text, isChosen }) => [text, isChosen])).toEqual([['a', false], ['b', false], ['c', true]])
    expect(ranking({ ...token, text: 'b', logprob: -2 })).toHaveLength(2)
  })
})

describe('cost', () => {
  it('is read from the document, joules summed over its lines', () => {
    const cost = costOf({ attributed: '0.000000908', currency: 'USD', wasted: '0.00', sheet: { version: 1, versions: [1], example: true }, lines: [{ energy_uj: 765_338 }, { energy_uj: 2_567_260 }] })
    expect(cost).toEqual({ joules: 3.332598, attributed: '0.000000908', currency: 'USD', wasted: '0.00', isExample: true })
  })

  it('is taken off the price exactly', () => {
    expect(less('0.00', '0.000000908')).toBe('-0.000000908')
    expect(less('10', '0.1')).toBe('9.9')
    expect(less('9007199254740993.000000001', '0.000000001')).toBe('9007199254740993.000000000')
    expect(less('1e3', '1')).toBeNull()
  })
})

describe('samples', () => {
  const body = bodyOf('chat', { ...FRESH, model: 'm', top_k: '40', temperature: '0.5' }, ask(`it's "quoted"\n你好`)).body

  it('for a shell survive its quotes', () => {
    const text = sample('curl', 'chat', 'http://host:1', body)
    expect(text).toContain(`it'\\''s \\"quoted\\"\\n你好`)
    expect(text).toContain(`curl -N 'http://host:1/v1/chat/completions'`)
    expect(text).toContain('Bearer $TOKENWORKS_API_KEY')
  })

  it('for Python put what its client does not know aside', () => {
    const text = sample('python', 'chat', 'http://host:1', body)
    expect(text).toContain('client.chat.completions.create(')
    expect(text).toContain('    extra_body={"top_k": 40},')
    expect(text).toContain('    stream=True,')
    expect(text).not.toMatch(/\b(true|false|null)\b/)
    expect(pythonOf({ a: [true, null, 'x"'], b: {} }, 0)).toBe('{"a": [\n        True,\n        None,\n        "x\\"",\n    ], "b": {}}')
  })

  it('for JavaScript are its own notation', () => {
    const text = sample('javascript', 'completion', 'http://host:1', { model: 'm', prompt: 'x', stream: true })
    expect(text).toContain('client.completions.create({\n  "model": "m"')
    expect(text).toContain('choice.text')
  })
})
