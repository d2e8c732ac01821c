"""The bridge itself: lanes, portals, ghosts, modules, commands."""
