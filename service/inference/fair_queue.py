"""A queue in which sessions take turns: who brings much waits behind itself, not before others.

Fair queueing by round robin (Nagle, RFC 970, 1985), for items that all cost the same.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of many flows; each flow's are in order. Threads may take while others put.

    What `is_over` says of an item that nobody waits for any more: it takes no turn.
    """

    def __init__(self, is_over: Callable[[T], bool]) -> None:
        self._is_over = is_over
        self._flows: OrderedDict[Hashable, deque[T]] = OrderedDict()  # the next one's turn first
        self._n_items = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._n_items

    def put(self, items: Iterable[T], flow: Hashable) -> None:
        """Puts items behind those of the same flow; a flow that had none has the last turn."""
        with self._lock:
            for item in items:
                self._flows.setdefault(flow, deque()).append(item)
                self._n_items += 1

    def next(self) -> T | None:
        """What has the next turn, if anything."""
        with self._lock:
            return next(iter(self._flows.values()))[0] if self._flows else None

    def take(self) -> T | None:
        """The next item, if there is any; its flow's others have the last turn then."""
        with self._lock:
            while self._flows:
                flow, items = self._flows.popitem(last=False)
                while items:
                    item = items.popleft()
                    self._n_items -= 1
                    if not self._is_over(item):
                        if items:
                            self._flows[flow] = items
                        return item
            return None

    def drop_over(self) -> None:
        """Makes room where items are over."""
        with self._lock:
            for flow, items in list(self._flows.items()):
                left = deque(item for item in items if not self._is_over(item))
                self._n_items += len(left) - len(items)
                if left:
                    self._flows[flow] = left  # its turn stays
                else:
                    del self._flows[flow]
