"""`python -m crisp_ros.cli` is `crisp`."""

from crisp_ros.cli.main import main

raise SystemExit(main())
