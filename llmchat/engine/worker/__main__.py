"""`python -m llmchat.engine.worker`."""

from llmchat.engine.worker.main import main

raise SystemExit(main())
