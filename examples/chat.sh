#!/bin/sh
# One chat with curl: tokenworks serve, sh chat.sh
# The answer streams as server-sent events; leave out "stream" to get it in one piece.
set -eu
url="${OPENAI_BASE_URL:-http://127.0.0.1:8080/v1}"
curl -sSN --fail-with-body "$url/chat/completions" \
    -H 'Content-Type: application/json' \
    -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
    -d '{
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Name three rivers."}],
        "max_tokens": 64,
        "stream": true,
        "stream_options": {"include_usage": true}
    }'
