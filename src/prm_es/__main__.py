"""`python -m prm_es`: the same as `prm-es`."""

if __name__ == "__main__":
    from prm_es.cli import main

    main()
