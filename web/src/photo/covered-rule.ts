/** Weights of the rule for covered faces, bias last: 577 float32, little endian, base64 (SPEC 8.7; the numbers of `covered.npy`). */
export const RULE =
  "HjehPXeQLz9xag8/ijOFvtqYtb6LwQU/DlH8Pj+CkT0Uf9G7xdPhPeZFQD3PwZS+e7yjvpjSpj1KCeU92YXcO1Ddzj1ePs09wXS8vnInlT068Uy9DvaxvlCE" +
  "jz5axTs9dvscPQ8yRD00kkA+ICe0PbEQ9z7y+OS8NtOOPVnExryksd29AfrDvmqy7750+BU/dx50Pibm174diLK+FFQJvm10lT6L3VA9P1JivtUBOD5BdkS+" +
  "itWavvfGzj3nAdI9OA+/vYiBjL6kPIG+qJTEvjTHI79J9qi+Cw3JvVYhfT3nEKy+knFXvg3cgT4S1Ja8rbc0PZt/P7rNICi7J5QYPjViOruO/De7wCTzvdpl" +
  "Sj48XPm93E4vPfRSXr6VBBu9xFl2PY86bjxc6QW+Fx1wvirjhb4iKbw9gjqSPqV6FD6WiTg+zcuXPqw2Nr9D61e+VSxwvvYB6r7Kyuk+ek90PhScMb3MGtm9" +
  "iT7MvcRA5z7+1LI9nigZv/RDej4p7Rc+y1kivhIlsr0V+409K/opPyBziz2W8Sy/eZqAvk/ARL066Es+4a8ePovkGT8D0Bs+Hn0Ev1U9tb53jm09RSrGvR9E" +
  "Uz1pxqO93M5DviWnPr2gC/C+mkoMv2RmSz72sVI9dkEyvnu1pL5Sp5A83sxZPjSPTr3lpsQ71GhnvLtpFz5c1Hk+gj81PhykKL2bqxo+Vz5HvRTBnD6Cwum+" +
  "7IAtPX5sVb5OaPQ+u1WAvhvDer72L2o9eRkavjaZOj7c5BW+Vc6gPjB/QT7HkCm/XYsXv+Abm76uY4q+VhqNPl4gdD30vWW84JpivkLb8L46Cm29MAQPvpfB" +
  "576xDwk+1YWQvYeuFb3Arky+yZ+EvuDw5T7CC2S+mclYv0yrp77kjwm+CYiXPj7OAT5KPu4+VtUBP/anvL73LAm/AdDhvhgrx77qWty9/L59vvrOwj3hRQq9" +
  "iB5zvtQ6Nb5vkJe9cnPIveIgjj1a2BS+I4luvWAOvj4dGAc+p7sivdfKo73qbpO+esBAPjMIyj42HBU+F0oDPjU4fD1JwmU+NqudvLjWTz7YVz89TcYjP/XK" +
  "YT51Ai68xIqhPjhrsD6gOaQ+sDARvqPvtj4mLOc9sJGVvf8XAL/K5Kq+s+X8PnAP9T0/6FA+syvyvJYUPr7LA7G7RJrcvp4yuL6GjZU7QQInP1+c/j0DHH6+" +
  "xkdpvq37H79bGca+dzUCvyyPEr8WTQk/9r8Bvla/arvlGAO+fsFbP1UgwD4zz5C+iX+Rvox7VD541li9gG/kvvGzhD1sByI/l+RuPjqx272Fx4c73jmVvgGk" +
  "Ij1xJJa+i3DxvUqJSD1s9nU+hR0lPs1WDj6FsbO8ARmovVJZF76nbbA+vR6jPmyKVj7yCkE+60jEPjY5iz5nHQU+q3WLPmCNZj7h9rU+IGm6PnxoEj6W06c8" +
  "RSQUPuwvUT7r4AM/L+KkPTnZTD4/PkS+Kqj0vYOuOz7aTSy9MB5zPtuxlz2Ab/09888VPRn3774JKsa+9D2fPurS4D5I0Xo+Ox4SPrD2MT5RkNm+ZPhnv2WQ" +
  "KL8QWmC+jvZaP0guzj4ZMzg+DgixPrpPqD4qhQy/kbsPvyreBD7Z8Mg+33+dPunupD5IYJc+trnFPr9GmrxhUTG+reZRPCVUFrufJzE+04BCPWUy2T34t3I9" +
  "GoaPvr8XLr4g7wc9QLIlPpxMz72PAZK+VLnNPsqK9z7fULE9moSyPthoDD/9e74+EC58u+5uvj16/OG9UTlLvt5vYz6xgUo+0WCBPv1DLj4f4lQ+trIAP22+" +
  "Qj67+04+sUUVvj+Wsb6wh7c9wcQjPT8vvj7zaCA9tNftPllm8z18JAi/ZXcwv+5wlr07/Sa8cWjnPfO75T7R0N8+tC21vvNsS78Aj1m/eYn7vliP4D4P/pM8" +
  "KB+RPl5JtD6Rm6k9Pa8Nv2kjn768JcM+7q18PjUjBr5BK8Y+KJ5tPkz6cj71ji++RAjsvbD/uj76M/49+qgfvcbENL3hOJM9Jb+IvX0pYr4lvCO+Cn0mPXWb" +
  "Ez1QAAG+JxijPYEOKj7kEBM/tv3CvVqCDT4pCpc+q8LUPlQOfL5JZaK9kedbPsXv4z2EPNI+JOIXvPZ6PT4PJKc+KMHCPg7Gyz7lYHY+EC/gPiKpw74JFA+/" +
  "UT2Nvf7nlj7AMvs+CZ0wPvkfDj9aIpK9zyRfvtaswL7vlMa+nukfvvp3rj4vw2e9fZ7+PdI9Dr8eag2//YH9vgEaD7++eo+9bfajvQX7lL548208QuKNvtMF" +
  "dr0LDAs/o6pAPypqnDoJklm+Wyr4O/rq173/abU9K1UlPeGdUz7pzUs/7WmkvDcUGr6HkK++v9yevb1pVD1Iakg+ybYLPtpwHz5rIG+9bmYtvoxSgL0ARES9" +
  "SB8JPs0vgzw8cgA+0WAYujAzRD5Fi+I8rkyyvQsvjb1F3uS8Ngc4vLvsk74IF1S+h65zvJSuZr7Oe+M9bRuqPfXCuTxZxCG+Hlq6vgin8r79YQ0+lewxPXlY" +
  "LbxZAZw9k5fNvgDjCL7VG2m9dfjhvnNHYb6U2zE+Md+5vrSoi75GHki/JzraveAn7z4BrZu9Joe8vvuzDb5d2QG/M1ivvulo+b7GJ5g8xruAPj8nAD/qTNc8" +
  "GtjLPWs+vr6j3Tq9uglFvtxNbr6fS12+sjzOPjPEzz0/vKo8hQiwvo143T0v6/q9m9EdPsz8s74/1Mw9aDCSPOR69LwOsTy8UD+IPkwmqD4m4B++i4KMu7BQ" +
  "LD7AYSI+fqQevRtIOz7EBgG82dWlPj4J1z1WCaO98+mOvMKmir0Y8+o9lpaGPo0e3z20xZ6+J/SDPMKTKL5oTPi+K7ZCPsumAD5xqnw+IC0kPurh8L4F01M9" +
  "ebWUPjlMsj2RRZm+wkhnvvuZFr2qsD+9sf0wvypcxj4POPQ+gJYCvUC02r4k0L6+mw0ZPpWQHz7sGbu+qFcQvRLnLT0TtmO9ISawPbY+bD5eyWi+LRJRPjMX" +
  "8L4G+3q+MlUDvmzJ0b39O9U8vNozPd2eNb0aCK8+3boVvmJ8mL61HEA9JJuIviC0ZLs9ptY6s9MDQA==";
