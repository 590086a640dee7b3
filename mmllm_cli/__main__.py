"""``python -m mmllm_cli``: the same as the ``mmllm`` command."""

from mmllm_cli.app import main

if __name__ == "__main__":
    main()
