// The script of the console. Pages work without it.
"use strict";
